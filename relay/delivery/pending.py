"""Applies administrators' pending actions to works that wait in a lane. Pure functions."""

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
    """Return the recipients of a work that stay, and by new state those to hold, drop or fail, with their reasons."""
    staying: list[Recipient] = []
    taken: dict[State, list[Recipient]] = {}
    for recipient in work.recipients:
        action = pending.get((recipient.message_id, recipient.n))
        if action is None:
            staying.append(recipient)
        else:
            taken.setdefault(_STATES[action.action], []).append(replace(recipient, reason=action.reason))
    return staying, taken
