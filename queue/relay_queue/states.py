"""The life of a recipient: one table, from which the code asks and `docs/internals/states.md` is drawn.

A recipient is in exactly one state. A *live* state is in the queue; a *final* state is in the history and never changes
again. Change the table and the picture in the manual together: a test compares them.
"""

import enum


class State(enum.IntEnum):
    """Where a recipient stands. The numbers are stored in databases: never renumber, only append."""

    QUEUED = 0
    """Waits until its `due_at`."""
    ACTIVE = 1
    """Claimed by one worker (its `owner`): in a lane's window or on the wire."""
    HELD = 2
    """Set aside by an admin; never due until released."""
    QUARANTINED = 3
    """Set aside by the relay because its row or body cannot be read; never due until released."""
    DELIVERED = 4
    """The next server took responsibility with a 250 (final)."""
    FAILED = 5
    """Refused for good, or failed by an admin; the sender was told if they asked to be (final)."""
    EXPIRED = 6
    """Temporary failures outlasted `retry.expire_after`; the sender was told (final)."""
    DROPPED = 7
    """Removed by an admin without telling the sender (final)."""

    @property
    def word(self) -> str:
        """The state's name as people and JSON see it."""
        return self.name.lower()


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset(
        {State.ACTIVE, State.HELD, State.QUARANTINED, State.FAILED, State.EXPIRED, State.DROPPED},
    ),
    State.ACTIVE: frozenset(
        {
            State.QUEUED,
            State.HELD,
            State.QUARANTINED,
            State.DELIVERED,
            State.FAILED,
            State.EXPIRED,
            State.DROPPED,
        },
    ),
    State.HELD: frozenset({State.QUEUED, State.FAILED, State.DROPPED}),
    State.QUARANTINED: frozenset({State.QUEUED, State.FAILED, State.DROPPED}),
    State.DELIVERED: frozenset(),
    State.FAILED: frozenset(),
    State.EXPIRED: frozenset(),
    State.DROPPED: frozenset(),
}

FINAL = frozenset(state for state, after in TRANSITIONS.items() if not after)
LIVE = frozenset(TRANSITIONS) - FINAL


def allowed(before: State, after: State) -> bool:
    """Whether a recipient may go from `before` to `after` (staying in place is no change, so not a transition)."""
    return after in TRANSITIONS[before]
