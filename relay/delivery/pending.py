"""What administrators want done to mail that waits in a lane: pure."""

from collections.abc import Mapping

from msgspec.structs import replace

from relay.delivery.work import Work
from relay_queue.model import Recipient
from relay_queue.protocol import Action, PendingAction
from relay_queue.states import State

_STATES = {Action.HOLD: State.HELD, Action.DROP: State.DROPPED, Action.FAIL: State.FAILED}


def parted(
    work: Work, pending: Mapping[tuple[str, int], PendingAction]
) -> tuple[list[Recipient], dict[State, list[Recipient]]]:
    """The recipients of a work that stay, and those to be held, dropped or failed, each with its reason."""
    staying: list[Recipient] = []
    taken: dict[State, list[Recipient]] = {}
    for recipient in work.recipients:
        action = pending.get((recipient.message_id, recipient.n))
        if action is None:
            staying.append(recipient)
        else:
            taken.setdefault(_STATES[action.action], []).append(replace(recipient, reason=action.reason))
    return staying, taken
