"""A lane's planner: a synchronous function of its state and the time to what to start, open and close.

It uses no sockets, no clock and no sleep: `relay.delivery.runner` carries the plan out and reports back. All limits of
one share of a lane are kept here (see `ownership`), so they are exact without any locking.

A plan is made in three steps, in an order that matters. First, idle connections get work as far as the rate allows.
Then connections are opened for the works that are left: one for each that may start now, minus those that are opening
already, so that a burst does not open a connection for a work that an opening connection will take. Last, connections
that were idle for too long are closed; they are looked at last, because a reused connection is never idle.
"""

import enum

import msgspec

from relay.delivery.pace import Pace
from relay.delivery.window import Window
from relay.delivery.work import Work
from relay_config.schema import Lane

WINDOW_SECONDS = 10.0
"""A window holds what the rate allows in this time; the rest waits in the queue, where it can be seen and steered."""
WINDOW_MOST = 1000
"""Transactions of one stream held in memory for a lane, at most."""

PAUSE_JITTER = 0.1
"""Part of a pause that is random."""
_UNPROVEN_MOST = 2
"""Connections being opened at once to a site that has not yet accepted one."""


class Phase(enum.Enum):
    """Where a connection stands."""

    CONNECTING = 0
    IDLE = 1
    BUSY = 2
    CLOSING = 3


class Slot(msgspec.Struct, eq=False):
    """One connection as the planner sees it; the runner keeps the real one beside it."""

    phase: Phase = Phase.CONNECTING
    sent: int = 0
    """Transactions started on it."""
    idle_since: float = 0.0
    since: float = 0.0
    """When it began to connect, or its present transaction was started."""
    work: Work | None = None
    """What is on it."""


class Plan(msgspec.Struct):
    """What to do now."""

    start: list[tuple[Slot, Work]] = msgspec.field(default_factory=list)
    open: list[Slot] = msgspec.field(default_factory=list)
    close: list[Slot] = msgspec.field(default_factory=list)
    wake_at: float | None = None
    """When to plan again if nothing happens before."""


class LanePlanner:
    """State of one lane's share in one worker."""

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
        """How many of the slots are connecting."""
        self.idle: list[Slot] = []
        """Idle slots, the longest idle first. The last one is reused first, so that surplus ones grow old and close."""
        self.failures = 0
        """Consecutive failures that are the lane's own (connect, 421 …) and not a message's."""
        self.paused_until = 0.0
        self.proven = False
        """A connection came up since the last failure. Before that only a few are tried at once: an address that never
        answers must not cost as many sockets and time-outs as a good site has connections."""
        self.cause = ""
        """Why it is paused: the last failure, as people read it."""
        self.suspended: str | None = None
        """Reason of an admin's suspension, while there is one."""

    def limit(self, limits: Lane, idle_timeout: float) -> None:
        """Take other limits; what is open or waiting stays."""
        if limits.rate != self.limits.rate:
            self._pace = Pace(limits.rate)
        if limits.connection_rate != self.limits.connection_rate:
            self._connection_pace = Pace(limits.connection_rate)
        self.limits = limits
        self._idle_timeout = idle_timeout

    @property
    def capacity(self) -> int:
        """How many transactions of one stream to hold in memory."""
        if self.failures:
            return 1
        rate = self.limits.rate
        allowed = rate.amount / rate.seconds * WINDOW_SECONDS if rate.amount else WINDOW_MOST
        return max(1, min(WINDOW_MOST, int(allowed)))

    def room(self, stream: str, now: float) -> int:
        """How many more transactions of a stream may be added; 0 while the lane is paused or suspended.

        Each stream has a capacity of its own: one that fills its part never keeps another out of memory.
        """
        if self.suspended is not None or now < self.paused_until:
            return 0
        return max(0, self.capacity - self.window.count(stream))

    def held_by(self, now: float) -> str:
        """Which limit the next work waits for: `rate`, `connections`, `connection_rate`; empty for none."""
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
        """Decide what to do now. The slots and works in the plan count as started, opening or closing from here on."""
        plan = Plan()
        if self.suspended is None and now >= self.paused_until:
            self._assign(plan, now)
            self._open(plan, now)
        elif self.window.size and self.suspended is None:
            _wake(plan, self.paused_until)
        self._close_idle(plan, now)
        return plan

    def connected(self, slot: Slot, now: float) -> None:
        """The slot's connection is up."""
        assert slot.phase is Phase.CONNECTING, f"{slot.phase} slot cannot become connected"
        self.proven = True
        self.connecting -= 1
        self._idle(slot, now)

    def finished(self, slot: Slot, now: float, *, reusable: bool) -> bool:
        """A transaction ended. Returns whether the connection is kept; if not it is closing."""
        assert slot.phase is Phase.BUSY, f"{slot.phase} slot cannot finish"
        slot.work = None
        if reusable and slot.sent < self.limits.messages_per_connection:
            self._idle(slot, now)
            return True
        slot.phase = Phase.CLOSING
        return False

    def closed(self, slot: Slot) -> None:
        """The slot's connection is gone, or never came up."""
        self.slots.discard(slot)
        if slot.phase is Phase.IDLE:
            self.idle.remove(slot)
        elif slot.phase is Phase.CONNECTING:
            self.connecting -= 1
        slot.phase = Phase.CLOSING

    def succeeded(self) -> None:
        """A connection came up and carried a transaction: earlier failures no longer count."""
        self.failures = 0
        self.cause = ""

    def failed(self, cause: str, now: float, *, random: float, seconds: float = 0.0) -> float:
        """The lane's connections fail: pause, twice as long each time in a row (± 10 %). Returns until when.

        `seconds`, where it is not 0, is a pause that the settings prescribe instead.
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
        most = 1 if self.failures else self.limits.max_connections
        count = min(self.window.size - connecting - len(self.idle), most - len(self.slots))
        if not self.proven:
            count = min(count, _UNPROVEN_MOST - connecting)
        if count <= 0:
            return
        # A connection that comes up while the rate allows no start would only wait and grow old.
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
