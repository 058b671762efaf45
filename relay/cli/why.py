"""Why a recipient waits and until when, in words. Pure: records and the time in, a sentence out."""

from collections.abc import Sequence

from relay.cli.output import span
from relay_queue.matching import lane_matches
from relay_queue.model import Message, Recipient, Suspension
from relay_queue.states import State


def why(message: Message, recipient: Recipient, suspensions: Sequence[Suspension], now: float) -> str:
    """One sentence about a live recipient."""
    match recipient.state:
        case State.HELD:
            reason = f" ({recipient.reason})" if recipient.reason else ""
            return f"held until released{reason}{_because(recipient)}"
        case State.QUARANTINED:
            return "set aside, its stored form is damaged" + _because(recipient)
        case State.ACTIVE:
            lane = f" at {recipient.lane}" if recipient.lane else ""
            return f"in hand: being sent, or next in line{lane}"
        case State.QUEUED:
            return _waiting(message, recipient, suspensions, now)
        case _:
            return recipient.state.word + _because(recipient)


def _waiting(message: Message, recipient: Recipient, suspensions: Sequence[Suspension], now: float) -> str:
    stop = suspended(message, recipient, suspensions, now)
    if stop is not None:
        until = "until removed" if stop.until is None else f"for another {span(stop.until - now)}"
        return f"suspended {until} ({stop.kind} {stop.value}: {stop.reason})"
    tries = "first attempt" if recipient.attempts == 0 else f"attempt {recipient.attempts + 1}"
    if recipient.due_at <= now:
        return f"{tries} due now" + _because(recipient)
    return f"{tries} in {span(recipient.due_at - now)}" + _because(recipient)


def suspended(
    message: Message, recipient: Recipient, suspensions: Sequence[Suspension], now: float
) -> Suspension | None:
    """The suspension that stops this recipient: of those that do, the one that lasts longest."""
    matching = [s for s in suspensions if (s.until is None or s.until > now) and _stops(s, message, recipient)]
    return max(matching, key=lambda s: float("inf") if s.until is None else s.until, default=None)


def _stops(suspension: Suspension, message: Message, recipient: Recipient) -> bool:
    match suspension.kind:
        case "domain":
            return suspension.value == recipient.domain
        case "user":
            return suspension.value == message.user
        case "site":
            return lane_matches(suspension.value, recipient.lane)
        case _:
            return False


def _because(recipient: Recipient) -> str:
    if not recipient.reply:
        return ""
    return f", after: {recipient.reply}"
