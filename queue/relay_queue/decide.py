"""Decides the new state when a worker's mark and an admin's action meet a recipient. Pure, shared by all backends.

Every answer is checked against `states.TRANSITIONS`, so that no backend can make a transition that is not in the table.
"""

from relay_queue.model import Mark, Put
from relay_queue.protocol import Action
from relay_queue.states import FINAL, TRANSITIONS, State, allowed

MARKABLE = TRANSITIONS[State.ACTIVE]
"""The states that a mark may set: only claimed recipients are marked."""

DEFERRABLE = frozenset({Action.HOLD, Action.DROP, Action.FAIL})
"""The actions that become pending on a claimed recipient; the others have no effect there."""


def settle(state: State, owner: int | None, pending: Action | None, mark: Mark) -> State | None:
    """The state of a recipient after `mark`, or None if the mark is refused (see `Queue.mark`)."""
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
    """The state of a recipient whose worker died. With a pending FAIL it is HELD, because no DSN can be built here."""
    if pending is None:
        return State.QUEUED
    return State.DROPPED if pending is Action.DROP else State.HELD


def steered(action: Action, state: State) -> State | None:
    """The state of an unclaimed recipient after an admin's action, or None if the action has no effect."""
    if action is Action.FLUSH:
        return State.QUEUED if state is State.QUEUED else None
    if action is Action.RELEASE:
        return State.QUEUED if state in {State.HELD, State.QUARANTINED} else None
    after = {Action.HOLD: State.HELD, Action.DROP: State.DROPPED, Action.FAIL: State.FAILED}[action]
    return after if state is not State.ACTIVE and allowed(state, after) else None


def pending_after(action: Action, pending: Action | None) -> Action | None:
    """The pending action of a claimed recipient after a new `action`: it replaces the old one; RELEASE cancels HOLD."""
    if action in DEFERRABLE:
        return action
    return None if action is Action.RELEASE and pending is Action.HOLD else pending


def is_by_admin(state: State, reply: str | None) -> bool:
    """Whether an administrator's action ended a recipient, so that its reason is kept. `reply` is the mark's."""
    return state is State.DROPPED or (state is State.FAILED and reply is None)


def check_put(put: Put) -> None:
    """Assert that a put is consistent. A failure is a bug in the caller."""
    message = put.entry.message
    assert put.entry.recipients, "a message without recipients would never end"
    for recipient in put.entry.recipients:
        assert recipient.message_id == message.id, "a recipient of another message"
        assert recipient.state in {State.QUEUED, State.ACTIVE}, "new recipients are queued or claimed"
        assert (recipient.owner is not None) == (recipient.state is State.ACTIVE), "claimed means owned"
        assert recipient.stream == message.stream, "a message has one stream"


def check_mark(mark: Mark) -> None:
    """Assert that the table of states allows a mark. A failure is a bug in the caller."""
    assert mark.state in MARKABLE, f"{mark.state.word} does not follow active"
