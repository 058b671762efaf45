"""Who wins when a worker's mark, an admin's action and a recipient's state meet: pure, shared by all backends.

Every answer is checked against `states.TRANSITIONS`, so that no backend can take a way the table does not have.
"""

from relay_queue.model import Mark, Put
from relay_queue.protocol import Action
from relay_queue.states import FINAL, TRANSITIONS, State, allowed

MARKABLE = TRANSITIONS[State.ACTIVE]
"""What a mark may say: a recipient is marked only out of a worker's hands."""

WISHES = frozenset({Action.HOLD, Action.DROP, Action.FAIL})
"""The actions that reach a recipient in hand as a wish; the others have nothing to do there."""


def settle(state: State, owner: int | None, wish: Action | None, mark: Mark) -> State | None:
    """The state that `mark` brings a recipient to, or None when it is refused (see `Queue.mark`)."""
    if state is not State.ACTIVE or owner != mark.owner:
        return None
    if wish is None or mark.state in FINAL:
        return mark.state
    if wish is Action.FAIL:
        return None
    if wish is Action.DROP:
        return State.DROPPED
    return State.HELD if mark.state is State.QUEUED else mark.state


def given_back(wish: Action | None) -> State:
    """Where a recipient goes whose worker died: nobody is left to send the DSN that a wish to FAIL asks for."""
    if wish is None:
        return State.QUEUED
    return State.DROPPED if wish is Action.DROP else State.HELD


def steered(action: Action, state: State) -> State | None:
    """Where an admin's action brings a recipient that is not in hand, or None when it has nothing to do there."""
    if action is Action.FLUSH:
        return State.QUEUED if state is State.QUEUED else None
    if action is Action.RELEASE:
        return State.QUEUED if state in {State.HELD, State.QUARANTINED} else None
    after = {Action.HOLD: State.HELD, Action.DROP: State.DROPPED, Action.FAIL: State.FAILED}[action]
    return after if state is not State.ACTIVE and allowed(state, after) else None


def wished(action: Action, wish: Action | None) -> Action | None:
    """The wish on a recipient in hand after an action: a release takes back a hold, a later wish the earlier one."""
    if action in WISHES:
        return action
    return None if action is Action.RELEASE and wish is Action.HOLD else wish


def is_by_admin(state: State, reply: str | None) -> bool:
    """Whether a recipient ended by an administrator's action: then its reason is kept. `reply` is the mark's."""
    return state is State.DROPPED or (state is State.FAILED and reply is None)


def check_put(put: Put) -> None:
    """Refuse, as a bug of ours, what no backend could give back."""
    message = put.entry.message
    assert put.entry.recipients, "a message without recipients would never end"
    for recipient in put.entry.recipients:
        assert recipient.message_id == message.id, "a recipient of another message"
        assert recipient.state in {State.QUEUED, State.ACTIVE}, "new recipients are queued or in hand"
        assert (recipient.owner is not None) == (recipient.state is State.ACTIVE), "in hand means owned"


def check_mark(mark: Mark) -> None:
    """Refuse, as a bug of ours, a mark that the table of states does not know."""
    assert mark.state in MARKABLE, f"{mark.state.word} does not follow active"
