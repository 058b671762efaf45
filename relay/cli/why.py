"""Explains why a recipient waits and until when, in the same way for lists, `show` and JSON. Pure: facts in, words out.

`relay.cli.waiting` collects the facts: the recipient's row, suspensions, and the lane reports of a running relay's
workers. Nothing here reads a clock, a file or the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay.cli.output import span
from relay.delivery.report_records import LaneReport, OnWire
from relay_queue.matching import lane_matches
from relay_queue.model import Message, Recipient, Suspension
from relay_queue.states import State

COUNTED = 100_000
"""Maximum number of due recipients that are counted; there may be more."""
_LONG = 5.0
"""Minimum duration in seconds that is worth reporting."""
_AWAITED = {
    "MAIL": ", which has not answered MAIL yet",
    "RCPT": ", which has not answered RCPT yet",
    "DATA": ", which has not answered DATA yet",
    "message": ", which has not taken the whole message yet",
    "end": ", which has not confirmed the message yet",
}


@dataclass(slots=True, frozen=True)
class Around:
    """Facts besides the recipient's own row."""

    running: bool = True
    """Whether a relay runs on this data folder."""
    stop: Suspension | None = None
    """The suspension that stops it."""
    lane: LaneReport | None = None
    """Its lane as reported a moment ago, all workers' shares together."""
    wire: OnWire | None = None
    """The transaction in which it is being sent."""
    place: int | None = None
    """Its position in its lane's queue, from 1."""
    ahead: int = 0
    """Number of recipients that are due before it, in its lane's queue and in the database."""


def why(recipient: Recipient, around: Around, now: float) -> str:
    """One sentence about a live recipient."""
    match recipient.state:
        case State.HELD:
            reason = f" ({recipient.reason})" if recipient.reason else ""
            return f"held until released{reason}{_because(recipient)}"
        case State.QUARANTINED:
            return "set aside, its stored form is damaged" + _because(recipient)
        case State.ACTIVE:
            return _claimed(recipient, around, now)
        case State.QUEUED:
            return _queued(recipient, around, now)
        case _:
            return recipient.state.word + _because(recipient)


def _claimed(recipient: Recipient, around: Around, now: float) -> str:
    """Claimed by a worker."""
    wire, lane = around.wire, around.lane
    if not around.running:
        return "claimed by a worker that no longer runs: tried again when the relay is started" + _because(recipient)
    if wire is not None:
        lasts = now - wire.since
        if lasts < _LONG:
            return f"being sent to {wire.remote}"
        return f"being sent to {wire.remote} for {span(lasts)}{_AWAITED.get(wire.stage, '')}"
    if around.place is not None and lane is not None:
        place = "next" if around.place == 1 else f"number {around.place:,}"
        return f"{place} in line for {lane.name}{_holding(lane, now)}"
    at = f" at {recipient.lane}" if recipient.lane else ""
    return f"claimed by a worker: being sent, or next in line{at}"


def _queued(recipient: Recipient, around: Around, now: float) -> str:
    stop, lane = around.stop, around.lane
    if stop is not None:
        until = "until removed" if stop.until is None else f"for another {span(stop.until - now)}"
        return f"suspended {until} ({stop.kind} {stop.value}: {stop.reason})"
    tries = "first attempt" if recipient.attempts == 0 else f"attempt {recipient.attempts + 1}"
    if recipient.due_at > now:
        return f"{tries} in {span(recipient.due_at - now)}" + _because(recipient)
    if lane is not None and lane.paused_until > now:
        left = span(lane.paused_until - now)
        return f"{tries} in {left}: deliveries to {lane.name} are paused, after: {lane.cause}"
    if lane is not None and (lane.waiting or lane.limit):
        ahead = f"about {around.ahead:,}" if around.ahead < COUNTED else f"more than {COUNTED:,}"
        return f"{tries} due now, {ahead} ahead of it for {lane.name}{_holding(lane, now)}"
    return f"{tries} due now" + _because(recipient)


def _holding(lane: LaneReport, now: float) -> str:
    """Return what keeps a lane's recipients waiting."""
    if lane.paused_until > now:
        return f", paused for another {span(lane.paused_until - now)}, after: {lane.cause}"
    oldest = min((wire.since for wire in lane.wire), default=now)
    lasting = f", the longest for {span(now - oldest)}" if now - oldest >= _LONG else ""
    match lane.limit:
        case "rate":
            return f", where at most {lane.rate} are sent"
        case "connections" if lane.wire:
            return f", whose connections are all busy{lasting}"
        case "connection_rate":
            return ", where the next connection may not be opened yet"
    if lane.connecting_since and not lane.wire and now - lane.connecting_since >= _LONG:
        return f", to which a connection is being opened for {span(now - lane.connecting_since)}"
    return ""


def suspended(
    message: Message, recipient: Recipient, lane: str | None, suspensions: Sequence[Suspension], now: float
) -> Suspension | None:
    """The suspension that stops this recipient, whose lane is `lane`: of those that do, the one that lasts longest."""
    matching = [s for s in suspensions if (s.until is None or s.until > now) and _stops(s, message, recipient, lane)]
    return max(matching, key=lambda s: float("inf") if s.until is None else s.until, default=None)


def _stops(suspension: Suspension, message: Message, recipient: Recipient, lane: str | None) -> bool:
    match suspension.kind:
        case "domain":
            return suspension.value == recipient.domain
        case "user":
            return suspension.value == message.user
        case "site":
            return lane_matches(suspension.value, lane)
        case _:
            return False


def _because(recipient: Recipient) -> str:
    if not recipient.reply:
        return ""
    return f", after: {recipient.reply}"
