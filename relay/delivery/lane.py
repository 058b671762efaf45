"""A lane's planner: computes from state and time which works to start and which connections to open and close.

The planner uses no sockets, no clock and no sleep; `relay.delivery.runner` carries the plan out and reports back. It
enforces all limits of one share of a lane (see `ownership`), so the limits are exact without locking.

A plan is made in three steps, and their order matters. First, idle connections get work as far as the rate allows.
Second, connections are opened for the remaining works: one for each work that may start now, minus the connections that
are already being opened, because each of those will take a work. Last, connections that were idle for too long are
closed. This step comes last so that a connection that step one reuses is not closed.
"""

import enum

import msgspec

from relay.delivery.pace import Pace
from relay.delivery.window import Window
from relay.delivery.work import Work
from relay_config.schema import Lane

WINDOW_SECONDS = 10.0
"""The window holds as many works as the rate allows in this time. Other mail stays in the queue, where administrators
can see it and act on it."""
WINDOW_MOST = 1000
"""Most transactions of one stream that a lane holds in memory."""

PAUSE_JITTER = 0.1
"""Random variation of a pause, as a fraction of its length (0.1: ± 10 %)."""
_UNPROVEN_MOST = 2
"""Most connections being opened at the same time to a site that has not accepted one yet."""


class Phase(enum.Enum):
    """The state of a connection."""

    CONNECTING = 0
    IDLE = 1
    BUSY = 2
    CLOSING = 3


class Slot(msgspec.Struct, eq=False):
    """One connection as the planner sees it. The runner keeps the matching session."""

    phase: Phase = Phase.CONNECTING
    sent: int = 0
    """Transactions started on it."""
    idle_since: float = 0.0
    since: float = 0.0
    """When the connection attempt, or the current transaction, started (loop time)."""
    work: Work | None = None
    """The work being sent; None unless BUSY."""


class Plan(msgspec.Struct):
    """Works to start, and connections to open and to close, now."""

    start: list[tuple[Slot, Work]] = msgspec.field(default_factory=list)
    open: list[Slot] = msgspec.field(default_factory=list)
    close: list[Slot] = msgspec.field(default_factory=list)
    wake_at: float | None = None
    """When to plan again (loop time) if no event causes a plan earlier; None: only on an event."""


class LanePlanner:
    """State of one worker's share of a lane. All times are in seconds of the event loop's clock."""

    __slots__ = (
        "_connection_pace",
        "_idle_timeout",
        "_pace",
        "cause",
        "connecting",
        "failures",
        "idle",
        "limits",
        "name",
        "paused_until",
        "proven",
        "slots",
        "suspended",
        "window",
    )

    def __init__(self, name: str, limits: Lane, idle_timeout: float, window: Window) -> None:
        self.name = name
        self.limits = limits
        self.window = window
        self._idle_timeout = idle_timeout
        self._pace = Pace(limits.rate)
        self._connection_pace = Pace(limits.connection_rate)
        self.slots: set[Slot] = set()
        self.connecting = 0
        """Number of slots in phase CONNECTING."""
        self.idle: list[Slot] = []
        """Idle slots, the longest idle first. The last one is reused first, so that surplus connections time out."""
        self.failures = 0
        """Consecutive failures that concern the whole lane (connect, 421 …) and not a single message."""
        self.paused_until = 0.0
        self.proven = False
        """Whether a connection was established since the last failure. Until then only `_UNPROVEN_MOST` are opened at a
        time, so that an address that never answers does not tie up `max_connections` sockets until they time out."""
        self.cause = ""
        """Why the lane is paused: the last failure, as readable text."""
        self.suspended: str | None = None
        """Reason of an administrator's suspension; None: not suspended."""

    def limit(self, limits: Lane, idle_timeout: float) -> None:
        """Replace the limits. Open connections and waiting works stay."""
        if limits.rate != self.limits.rate:
            self._pace = Pace(limits.rate)
        if limits.connection_rate != self.limits.connection_rate:
            self._connection_pace = Pace(limits.connection_rate)
        self.limits = limits
        self._idle_timeout = idle_timeout

    @property
    def capacity(self) -> int:
        """How many transactions of one stream the window may hold; 1 while the lane is failing."""
        if self.failures:
            return 1
        rate = self.limits.rate
        allowed = rate.amount / rate.seconds * WINDOW_SECONDS if rate.amount else WINDOW_MOST
        return max(1, min(WINDOW_MOST, int(allowed)))

    def room(self, stream: str, now: float) -> int:
        """How many more transactions of a stream may be added; 0 while the lane is paused or suspended.

        Each stream has its own capacity, so a stream that fills its part never keeps another stream out of memory.
        """
        if self.suspended is not None or now < self.paused_until:
            return 0
        return max(0, self.capacity - self.window.count(stream))

    def held_by(self, now: float) -> str:
        """Return which limit delays the next work: `rate`, `connections`, `connection_rate`; empty for none."""
        if not self.window.size:
            return ""
        if self._pace.ready_at(now) > now:
            return "rate"
        if self.idle:
            return ""
        if len(self.slots) >= (1 if self.failures else self.limits.max_connections):
            return "connections"
        return "connection_rate" if self._connection_pace.ready_at(now) > now else ""

    def plan(self, now: float) -> Plan:
        """Decide what to do now. The plan's works count as started, and its slots as opening or closing, at once."""
        plan = Plan()
        if self.suspended is None and now >= self.paused_until:
            self._assign(plan, now)
            self._open(plan, now)
        elif self.window.size and self.suspended is None:
            _wake(plan, self.paused_until)
        self._close_idle(plan, now)
        return plan

    def connected(self, slot: Slot, now: float) -> None:
        """Report that the slot's connection is established."""
        assert slot.phase is Phase.CONNECTING, f"{slot.phase} slot cannot become connected"
        self.proven = True
        self.connecting -= 1
        self._idle(slot, now)

    def finished(self, slot: Slot, now: float, *, reusable: bool) -> bool:
        """Report the end of a transaction. Returns whether the connection is kept; otherwise the slot is CLOSING."""
        assert slot.phase is Phase.BUSY, f"{slot.phase} slot cannot finish"
        slot.work = None
        if reusable and slot.sent < self.limits.messages_per_connection:
            self._idle(slot, now)
            return True
        slot.phase = Phase.CLOSING
        return False

    def closed(self, slot: Slot) -> None:
        """Report that the slot's connection is closed or was never established."""
        self.slots.discard(slot)
        if slot.phase is Phase.IDLE:
            self.idle.remove(slot)
        elif slot.phase is Phase.CONNECTING:
            self.connecting -= 1
        slot.phase = Phase.CLOSING

    def succeeded(self) -> None:
        """Reset the failure count after a connection carried a transaction."""
        self.failures = 0
        self.cause = ""

    def failed(self, cause: str, now: float, *, random: float, seconds: float = 0.0) -> float:
        """Pause after a failure of the lane. Returns when the pause ends.

        Each consecutive pause is twice as long (± 10 %), up to `backoff_max`. If `seconds` is not 0, it is the pause
        that a reply rule of the settings prescribes instead. `random` lies in [0, 1). A failure during a pause changes
        nothing, because connections that fail together count as one failure.
        """
        if now < self.paused_until:
            return self.paused_until
        self.failures += 1
        self.proven = False
        pause = seconds or min(self.limits.backoff * 2.0 ** min(self.failures - 1, 30), self.limits.backoff_max)
        self.paused_until = now + pause * (1 + PAUSE_JITTER * (2 * random - 1))
        self.cause = cause
        return self.paused_until

    def _idle(self, slot: Slot, now: float) -> None:
        slot.phase = Phase.IDLE
        slot.idle_since = now
        self.idle.append(slot)

    def _assign(self, plan: Plan, now: float) -> None:
        while self.window.size and self.idle:
            start_at = self._pace.ready_at(now)
            if start_at > now:
                _wake(plan, start_at)
                return
            slot = self.idle.pop()
            slot.phase = Phase.BUSY
            slot.sent += 1
            slot.since = now
            slot.work = work = self.window.take()
            self._pace.take(now)
            plan.start.append((slot, work))

    def _open(self, plan: Plan, now: float) -> None:
        connecting = self.connecting
        # After a failure of the lane a single connection tests the peer; the others would most likely fail as well.
        most = 1 if self.failures else self.limits.max_connections
        count = min(self.window.size - connecting - len(self.idle), most - len(self.slots))
        if not self.proven:
            count = min(count, _UNPROVEN_MOST - connecting)
        if count <= 0:
            return
        # While the rate allows no start, a new connection would only stay idle until it times out.
        startable = self._pace.allowed(now) - connecting - len(self.idle)
        if startable <= 0:
            if not connecting and not self.idle:
                _wake(plan, self._pace.ready_at(now))
            return
        for _ in range(min(count, startable)):
            open_at = self._connection_pace.ready_at(now)
            if open_at > now:
                _wake(plan, open_at)
                return
            self._connection_pace.take(now)
            slot = Slot(since=now)
            self.slots.add(slot)
            self.connecting += 1
            plan.open.append(slot)

    def _close_idle(self, plan: Plan, now: float) -> None:
        while self.idle:
            oldest = self.idle[0]
            ends_at = oldest.idle_since + self._idle_timeout
            if ends_at > now:
                _wake(plan, ends_at)
                return
            del self.idle[0]
            oldest.phase = Phase.CLOSING
            plan.close.append(oldest)


def _wake(plan: Plan, at: float) -> None:
    if plan.wake_at is None or at < plan.wake_at:
        plan.wake_at = at
