"""The states of a recipient: one table, which the code consults and `docs/internals/states.md` is drawn from.

A recipient is in exactly one state. A *live* state is in the queue; a *final* state is in the history and never changes
again. Change the table and the picture in the manual together: a test compares them.
"""

import enum


class State(enum.IntEnum):
    """The state of a recipient. The numbers are stored in databases: never renumber, only append."""

    QUEUED = 0
    """Waits until its `due_at`."""
    ACTIVE = 1
    """Claimed by one worker (its `owner`): waiting in a lane's window, or being delivered."""
    HELD = 2
    """Set aside by an admin; never due until released."""
    QUARANTINED = 3
    """Set aside by the relay because its row or body cannot be read; never due until released."""
    DELIVERED = 4
    """The next server took responsibility with a 250 (final)."""
    FAILED = 5
    """Permanently refused, or failed by an admin; the sender was notified if they asked for it (final)."""
    EXPIRED = 6
    """Temporary failures lasted longer than `retry.expire_after`; the sender was notified (final)."""
    DROPPED = 7
    """Removed by an admin without notifying the sender (final)."""

    @property
    def word(self) -> str:
        """The state's name as shown to users and in JSON."""
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
    """Whether a recipient may change from `before` to `after`. Keeping the same state is not a transition."""
    return after in TRANSITIONS[before]
