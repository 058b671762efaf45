"""From outcomes to what the queue records: pure. It reads records and returns new ones; it changes none.

Joins the outcomes with the retry schedule: each recipient gets one `Mark`, and those that DSNs will be about are named.
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
    """What to record, and about whom a DSN may be due. The recipients are copies that say what became of them."""

    marks: list[Mark] = msgspec.field(default_factory=list)
    failed: list[Recipient] = msgspec.field(default_factory=list)
    """Ended without delivery (FAILED or EXPIRED): a failure DSN where wanted."""
    delayed: list[Recipient] = msgspec.field(default_factory=list)
    """Deferred, late, and not reported as late before: a delay DSN where wanted."""
    relayed: list[Recipient] = msgspec.field(default_factory=list)
    """Delivered, with a NOTIFY, to a server that takes no DSN requests: a success DSN where wanted."""


class Circumstances(msgspec.Struct, frozen=True):
    """What all recipients of an attempt share."""

    owner: Owner
    now: float
    lane: str
    remote: str | None
    """The server of the attempt; a recipient names it only where the server answered for that recipient."""
    retry: Retry
    random: Callable[[], float]
    peer_reports: bool = False
    """The peer took over the requests for DSNs."""
    not_before: float = 0.0
    """The lane is paused until then; an earlier attempt would be of no use."""


def judge(work: Work, outcomes: Sequence[Outcome], around: Circumstances) -> Verdict:
    """One verdict for all recipients of a work; `outcomes` in the recipients' order."""
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
    """The recipient as the mark leaves it."""
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
        # Its turn has not really come yet: as soon as the lane is open again, not after the schedule's first wait.
        return min(around.not_before, due_at)
    return max(around.not_before, due_at)


def mark_as(recipient: Recipient, state: State, owner: Owner, now: float, *, due_at: float = 0.0) -> Mark:
    """The mark that brings a recipient into a state without an attempt; what is known of it stays."""
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
