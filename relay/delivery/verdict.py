"""From what a peer said (or how the session broke) to what the queue records: pure.

Joins the outcome classes with the retry schedule: each recipient gets one `Mark`, and the DSNs that follow are named.
The recipients' records are brought up to date as well, since DSNs and events are made from them.
"""

from collections.abc import Callable

import msgspec

from relay.delivery.outcome import Disposition, Outcome
from relay.delivery.retry import decide
from relay.delivery.work import Work
from relay_config.schema import Retry
from relay_queue.model import Mark, Recipient
from relay_queue.states import State


class Verdict(msgspec.Struct):
    """What to record and whom to tell."""

    marks: list[Mark] = msgspec.field(default_factory=list)
    failed: list[Recipient] = msgspec.field(default_factory=list)
    """Ended without delivery (FAILED or EXPIRED): a failure DSN where wanted."""
    delayed: list[Recipient] = msgspec.field(default_factory=list)
    """Deferred and late, not told before: a delay DSN where wanted."""
    relayed: list[Recipient] = msgspec.field(default_factory=list)
    """Delivered, with a NOTIFY, to a server that takes no DSN requests on: a success DSN where wanted."""


class Circumstances(msgspec.Struct, frozen=True):
    """What all recipients of an attempt share."""

    owner: int
    now: float
    lane: str
    remote: str | None
    """The server that answered, `host[address]:port`; None when nobody did."""
    retry: Retry
    random: Callable[[], float]
    peer_reports: bool = False
    """The peer took the DSN requests on itself."""
    not_before: float = 0.0
    """The lane is paused until then; trying earlier is of no use."""
    unasked: frozenset[int] = frozenset()
    """Places of the recipients whose outcome is our own finding: `remote` said nothing about them."""


def judge(work: Work, outcomes: list[Outcome], around: Circumstances) -> Verdict:
    """One verdict for all recipients of a work; `outcomes` in the recipients' order."""
    verdict = Verdict()
    for place, (recipient, outcome) in enumerate(zip(work.recipients, outcomes, strict=True)):
        remote = None if place in around.unasked else around.remote
        first = recipient.attempts == 0
        recipient.attempts += 1
        recipient.reply = outcome.text
        recipient.lane = around.lane
        if remote is not None:
            recipient.remote = remote
        recipient.changed_at = around.now
        due_at = 0.0
        if outcome.disposition is Disposition.DELIVERED:
            recipient.state, recipient.failure = State.DELIVERED, None
            if recipient.notify is not None and not around.peer_reports:
                verdict.relayed.append(recipient)
        elif outcome.disposition is Disposition.PERMANENT:
            recipient.state, recipient.failure = State.FAILED, outcome.failure
            verdict.failed.append(recipient)
        else:
            recipient.failure = outcome.failure
            due_at = _defer(work, recipient, around, verdict, first=first)
        verdict.marks.append(mark_of(recipient, around.owner, around.now, due_at=due_at, remote=remote))
    return verdict


def _defer(work: Work, recipient: Recipient, around: Circumstances, verdict: Verdict, *, first: bool) -> float:
    decision = decide(
        around.retry,
        attempts=recipient.attempts,
        received_at=work.message.received_at,
        now=around.now,
        random=around.random(),
    )
    if decision.due_at is None:
        recipient.state = State.EXPIRED
        verdict.failed.append(recipient)
        return 0.0
    recipient.state = State.QUEUED
    if decision.delay_notice and not recipient.delay_notified:
        recipient.delay_notified = True
        verdict.delayed.append(recipient)
    if first and around.not_before > around.now:
        # Its turn has not really come yet: as soon as the lane is open again, not after the schedule's first wait.
        recipient.due_at = min(around.not_before, decision.due_at)
    else:
        recipient.due_at = max(around.not_before, decision.due_at)
    return recipient.due_at


def mark_of(
    recipient: Recipient,
    owner: int,
    now: float,
    *,
    due_at: float = 0.0,
    remote: str | None = None,
) -> Mark:
    """The mark that records a recipient as it stands."""
    return Mark(
        message_id=recipient.message_id,
        n=recipient.n,
        owner=owner,
        state=recipient.state,
        at=now,
        attempts=recipient.attempts,
        due_at=due_at,
        reply=recipient.reply,
        failure=recipient.failure,
        lane=recipient.lane,
        remote=remote,
        delay_notified=recipient.delay_notified,
    )
