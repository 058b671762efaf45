"""Which one wins when a worker's mark, an admin's action and a recipient's state meet: pure, shared by all backends.

Every answer is checked against `states.TRANSITIONS`, so that no backend can make a transition the table does not have.
"""

from relay_queue.model import Mark, Put
from relay_queue.protocol import Action
from relay_queue.states import FINAL, TRANSITIONS, State, allowed

MARKABLE = TRANSITIONS[State.ACTIVE]
"""What a mark may say: only claimed recipients are marked."""

DEFERRABLE = frozenset({Action.HOLD, Action.DROP, Action.FAIL})
"""The actions that become pending on a claimed recipient; the others have no effect there."""


def settle(state: State, owner: int | None, pending: Action | None, mark: Mark) -> State | None:
    """The state that `mark` brings a recipient to, or None when it is refused (see `Queue.mark`)."""
    if state is not State.ACTIVE or owner != mark.owner:
        return None
    if pending is None or mark.state in FINAL:
        return mark.state
    if pending is Action.FAIL:
        return None
    if pending is Action.DROP:
        return State.DROPPED
    return State.HELD if mark.state is State.QUEUED else mark.state


def given_back(pending: Action | None) -> State:
    """The state of a recipient whose worker died. With a pending FAIL it is HELD: its DSN cannot be sent here."""
    if pending is None:
        return State.QUEUED
    return State.DROPPED if pending is Action.DROP else State.HELD


def steered(action: Action, state: State) -> State | None:
    """The state that an admin's action brings an unclaimed recipient to, or None when the action has no effect."""
    if action is Action.FLUSH:
        return State.QUEUED if state is State.QUEUED else None
    if action is Action.RELEASE:
        return State.QUEUED if state in {State.HELD, State.QUARANTINED} else None
    after = {Action.HOLD: State.HELD, Action.DROP: State.DROPPED, Action.FAIL: State.FAILED}[action]
    return after if state is not State.ACTIVE and allowed(state, after) else None


def pending_after(action: Action, pending: Action | None) -> Action | None:
    """The pending action of a claimed recipient after another: the later replaces the earlier, release ends hold."""
    if action in DEFERRABLE:
        return action
    return None if action is Action.RELEASE and pending is Action.HOLD else pending


def is_by_admin(state: State, reply: str | None) -> bool:
    """Whether a recipient ended by an administrator's action: then its reason is kept. `reply` is the mark's."""
    return state is State.DROPPED or (state is State.FAILED and reply is None)


def check_put(put: Put) -> None:
    """Refuse, as a bug of ours, what no backend could return."""
    message = put.entry.message
    assert put.entry.recipients, "a message without recipients would never end"
    for recipient in put.entry.recipients:
        assert recipient.message_id == message.id, "a recipient of another message"
        assert recipient.state in {State.QUEUED, State.ACTIVE}, "new recipients are queued or claimed"
        assert (recipient.owner is not None) == (recipient.state is State.ACTIVE), "claimed means owned"
        assert recipient.stream == message.stream, "a message has one stream"


def check_mark(mark: Mark) -> None:
    """Refuse, as a bug of ours, a mark that the table of states does not allow."""
    assert mark.state in MARKABLE, f"{mark.state.word} does not follow active"
