"""What administrators want of mail that waits in a lane: pure."""

from collections.abc import Mapping

from relay.delivery.work import Work
from relay_queue.model import Recipient
from relay_queue.protocol import Action, Wish
from relay_queue.states import State

_STATES = {Action.HOLD: State.HELD, Action.DROP: State.DROPPED, Action.FAIL: State.FAILED}


def take_out(work: Work, wishes: Mapping[tuple[str, int], Wish]) -> dict[State, list[Recipient]]:
    """Take the recipients out of a work that are to be held, dropped or failed, each with its reason."""
    taken: dict[State, list[Recipient]] = {}
    for recipient in work.recipients:
        wish = wishes.get((recipient.message_id, recipient.n))
        if wish is not None:
            recipient.reason = wish.reason
            taken.setdefault(_STATES[wish.action], []).append(recipient)
    if taken:
        gone = {recipient.n for recipients in taken.values() for recipient in recipients}
        work.recipients = [recipient for recipient in work.recipients if recipient.n not in gone]
    return taken
