"""A lane's planner: a synchronous function of its state and the time to what to start, open, close and when to wake.

No sockets, no clock, no sleep: `relay.delivery.runner` carries the plan out and reports back. All limits of one share
of a lane live here (see `ownership`), so they are exact without any locking.
"""

import enum
from collections import deque

import msgspec

from relay.delivery.pace import Pace
from relay.delivery.work import Work
from relay_config.schema import Lane

WINDOW_SECONDS = 10.0
"""A window holds what a rate allows in this time; the rest waits in the queue, where it can be seen and steered."""
WINDOW_MOST = 1000
"""Transactions held in memory per lane, at most."""

PAUSE_JITTER = 0.1
"""Part of a pause that is random."""
_UNPROVEN_MOST = 2
"""Connections being opened at once to a site that has not yet taken one."""


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
        "ready",
        "slots",
        "suspended",
    )

    def __init__(self, name: str, limits: Lane, idle_timeout: float) -> None:
        self.name = name
        self.limits = limits
        self._idle_timeout = idle_timeout
        self._pace = Pace(limits.rate)
        self._connection_pace = Pace(limits.connection_rate)
        self.ready: deque[Work] = deque()
        self.slots: set[Slot] = set()
        self.connecting = 0
        """How many of the slots are."""
        self.idle: list[Slot] = []
        """Idle slots, the longest idle first; the last one is reused first, so that a surplus can age and close."""
        self.failures = 0
        """Failures in a row that are the lane's own (connect, 421 …), not a message's."""
        self.paused_until = 0.0
        self.proven = False
        """A connection came up since the last failure. Before that few are tried at once: a black hole shall not cost
        as many sockets and time-outs as a good site has connections."""
        self.cause = ""
        """Why it is paused: the last failure, as told to people."""
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

    def window(self) -> int:
        """How many transactions to hold in memory."""
        if self.failures:
            return 1
        rate = self.limits.rate
        allowed = rate.amount / rate.seconds * WINDOW_SECONDS if rate.amount else WINDOW_MOST
        return max(1, min(WINDOW_MOST, int(allowed)))

    def room(self, now: float) -> int:
        """How many more transactions may be handed in; 0 while paused or suspended."""
        if self.suspended is not None or now < self.paused_until:
            return 0
        return max(0, self.window() - len(self.ready))

    def held_by(self, now: float) -> str:
        """Which limit the first in line waits for: `rate`, `connections`, `connection_rate`; empty for none."""
        if not self.ready:
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
        elif self.ready and self.suspended is None:
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
        """A connection came up and carried a transaction through: what failed before is over."""
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
        while self.ready and self.idle:
            start_at = self._pace.ready_at(now)
            if start_at > now:
                _wake(plan, start_at)
                return
            slot = self.idle.pop()
            slot.phase = Phase.BUSY
            slot.sent += 1
            slot.since = now
            slot.work = work = self.ready.popleft()
            self._pace.take(now)
            plan.start.append((slot, work))

    def _open(self, plan: Plan, now: float) -> None:
        connecting = self.connecting
        most = 1 if self.failures else self.limits.max_connections
        count = min(len(self.ready) - connecting - len(self.idle), most - len(self.slots))
        if not self.proven:
            count = min(count, _UNPROVEN_MOST - connecting)
        if count <= 0:
            return
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
