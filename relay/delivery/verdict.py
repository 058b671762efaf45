"""Converts outcomes to marks for the queue. Pure functions: they return new records and change none.

Combines the outcomes with the retry schedule. Each recipient gets one `Mark`, and the recipients for which a DSN may be
due are listed.
"""

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from relay.delivery.outcome import Disposition, Outcome
from relay.delivery.retry import decide
from relay.delivery.work import Work
from relay_config.schema import Retry
from relay_queue.model import Mark, Message, Owner, Recipient
from relay_queue.states import State


class Verdict(msgspec.Struct):
    """The marks to record, and the recipients for which a DSN may be due, as copies in their new state."""

    marks: list[Mark] = msgspec.field(default_factory=list)
    failed: list[Recipient] = msgspec.field(default_factory=list)
    """FAILED or EXPIRED: a failure DSN is sent if wanted."""
    delayed: list[Recipient] = msgspec.field(default_factory=list)
    """Deferred, late, and not yet reported as delayed: a delay DSN is sent if wanted."""
    relayed: list[Recipient] = msgspec.field(default_factory=list)
    """Delivered with NOTIFY to a server without DSN support: a success DSN is sent if wanted."""


class Circumstances(msgspec.Struct, frozen=True):
    """The data that all recipients of an attempt share. Times are in seconds since the epoch."""

    owner: Owner
    now: float
    lane: str
    remote: str | None
    """The server of the attempt. It is recorded only for recipients for which the server replied."""
    retry: Retry
    random: Callable[[], float]
    peer_reports: bool = False
    """The peer accepted the DSN requests."""
    not_before: float = 0.0
    """When the lane's pause ends; earlier attempts are useless. 0: not paused."""


def judge(work: Work, outcomes: Sequence[Outcome], around: Circumstances) -> Verdict:
    """Return one verdict for all recipients of a work. `outcomes` is in the recipients' order."""
    verdict = Verdict()
    for recipient, outcome in zip(work.recipients, outcomes, strict=True):
        mark = _mark(work.message, recipient, outcome, around)
        verdict.marks.append(mark)
        if mark.state is State.DELIVERED:
            if recipient.notify is not None and not around.peer_reports:
                verdict.relayed.append(after(recipient, mark))
        elif mark.state is not State.QUEUED:
            verdict.failed.append(after(recipient, mark))
        elif mark.delay_notified and not recipient.delay_notified:
            verdict.delayed.append(after(recipient, mark))
    return verdict


def after(recipient: Recipient, mark: Mark) -> Recipient:
    """Return the recipient as it is after the mark."""
    return replace(
        recipient,
        state=mark.state,
        owner=None,
        attempts=mark.attempts,
        due_at=mark.due_at if mark.state is State.QUEUED else recipient.due_at,
        lane=mark.lane or recipient.lane,
        reply=mark.reply or recipient.reply,
        remote=mark.remote or recipient.remote,
        failure=None if mark.state is State.DELIVERED else mark.failure or recipient.failure,
        delay_notified=mark.delay_notified,
        changed_at=mark.at,
    )


def _mark(message: Message, recipient: Recipient, outcome: Outcome, around: Circumstances) -> Mark:
    state, due_at, notified = State.DELIVERED, 0.0, recipient.delay_notified
    if outcome.disposition is Disposition.PERMANENT:
        state = State.FAILED
    elif outcome.disposition is Disposition.TEMPORARY:
        decision = decide(
            around.retry,
            attempts=recipient.attempts + 1,
            received_at=message.received_at,
            now=around.now,
            random=around.random(),
        )
        if decision.due_at is None:
            state = State.EXPIRED
        else:
            state = State.QUEUED
            due_at = _due_at(recipient, decision.due_at, around)
            notified = notified or decision.delay_notice
    failure = outcome.failure
    return Mark(
        message_id=recipient.message_id,
        n=recipient.n,
        owner=around.owner.lease,
        state=state,
        at=around.now,
        attempts=recipient.attempts + 1,
        due_at=due_at,
        reply=outcome.text,
        failure=None if failure is None else failure.value,
        lane=around.lane,
        remote=around.remote if outcome.answered else None,
        delay_notified=notified,
    )


def _due_at(recipient: Recipient, due_at: float, around: Circumstances) -> float:
    if recipient.attempts == 0 and around.not_before > around.now:
        # Mail that was never tried goes when the pause ends and does not wait for the schedule's first interval.
        return min(around.not_before, due_at)
    return max(around.not_before, due_at)


def mark_as(recipient: Recipient, state: State, owner: Owner, now: float, *, due_at: float = 0.0) -> Mark:
    """Return a mark that changes a recipient's state without an attempt and keeps its other fields."""
    return Mark(
        message_id=recipient.message_id,
        n=recipient.n,
        owner=owner.lease,
        state=state,
        at=now,
        attempts=recipient.attempts,
        due_at=due_at,
        failure=recipient.failure,
        lane=recipient.lane,
        delay_notified=recipient.delay_notified,
    )
