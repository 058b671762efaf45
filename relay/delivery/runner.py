"""The async shell of a lane: carries out the planner's plans on real connections, and reports back.

One task per connection, none per message. It knows nothing of the queue: `LaneHost` (the delivery service) opens
connections, reads bodies and takes the outcomes.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from relay.delivery.lane import LanePlanner, Phase, Slot
from relay.delivery.routing import Route, RouteError
from relay.delivery.work import Work
from relay.smtp.client.connection import Connection
from relay.smtp.client.features import Features
from relay.smtp.client.model import Outgoing, Result, SessionError, Stage


class LaneHost(Protocol):
    """What a lane needs of the service around it."""

    async def open_connection(self, lane: "LaneRunner") -> Connection | RouteError | SessionError:
        """Connect to the first of the lane's addresses that takes us."""
        ...

    async def outgoing(self, lane: "LaneRunner", work: Work, features: Features) -> Outgoing | None:
        """The transaction for a work, its body read; None: it can't be sent, and was marked.

        What such a peer does not take in one transaction is handed in again.
        """
        ...

    def sent(self, lane: "LaneRunner", work: Work, result: Result) -> None:
        """The peer answered."""
        ...

    def broken(self, lane: "LaneRunner", work: Work, error: SessionError) -> None:
        """The connection broke while the work was on it."""
        ...

    def interrupted(self, work: Work) -> None:
        """We cut the connection off ourselves while the work was on it."""
        ...

    def unreachable(self, lane: "LaneRunner", error: RouteError | SessionError) -> None:
        """No connection could be made; the lane is paused already and what is ready must be deferred."""
        ...

    def started(self, work: Work) -> None:
        """The work left the window for the wire."""
        ...

    def hungry(self, lane: "LaneRunner") -> None:
        """The lane has room again."""
        ...

    def fault(self, error: BaseException) -> None:
        """An internal fault in a connection's task."""
        ...


class LaneRunner:
    """One lane's share: planner, connections, and the domains known to have more due in the queue."""

    def __init__(
        self,
        planner: LanePlanner,
        route: Route,
        host: LaneHost,
        clock: Callable[[], float],
        domain: str = "",
    ) -> None:
        self.planner = planner
        self.route = route
        """The latest known; hosts may change while the lane stays, the manner of connecting never does."""
        self.domain = domain
        """The one domain that it serves, where that has limits of its own; else empty."""
        self.whole = planner.limits
        """The limits of all its shares together."""
        self.connections: dict[Slot, Connection] = {}
        self.due: dict[str, None] = {}
        """Domains with due recipients in the queue (an ordered set)."""
        self.claiming = False
        self.used_at = clock()
        self.stopping = False
        self._host = host
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._inboxes: dict[Slot, asyncio.Future[Work | None]] = {}
        self._tasks: dict[Slot, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def name(self) -> str:
        """The lane's name."""
        return self.planner.name

    @property
    def busy(self) -> bool:
        """Anything in memory or open."""
        return bool(self.planner.ready or self._tasks or self.due or self.claiming)

    def add(self, work: Work) -> None:
        """Hand a work in; it starts at once where the limits allow."""
        self.planner.ready.append(work)
        self.kick()

    def kick(self) -> None:
        """Plan and carry it out."""
        if self.stopping:
            return
        now = self._clock()
        self.used_at = now
        plan = self.planner.plan(now)
        for slot, work in plan.start:
            self._host.started(work)
            self._inboxes.pop(slot).set_result(work)
        for slot in plan.open:
            self._tasks[slot] = self._loop.create_task(self._session(slot))
        for slot in plan.close:
            self._inboxes.pop(slot).set_result(None)
        self._wake_at(plan.wake_at)

    @property
    def ended(self) -> bool:
        """No connection is left."""
        return not self._tasks

    def retire(self) -> None:
        """Start nothing more; connections close at once, or when the transaction on them has ended."""
        self.stopping = True
        self.due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for inbox in self._inboxes.values():
            if not inbox.done():
                inbox.set_result(None)
        self._inboxes.clear()
        for slot, task in self._tasks.items():
            if slot.phase is Phase.CONNECTING:
                # Nothing is on it yet, and a black hole would hold us up for as long as we are allowed to take.
                task.cancel()

    async def stop(self) -> None:
        """Retire, and wait until all connections are closed. Cancel to cut it short."""
        self.retire()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def abort(self) -> None:
        """Cut all connections off; what was on the wire is reported as broken."""
        for task in self._tasks.values():
            task.cancel()

    def _wake_at(self, at: float | None) -> None:
        """Have `kick` called by `at`. A timer that fires too early only plans once more, so it is rarely re-armed."""
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self.kick()

    async def _session(self, slot: Slot) -> None:
        connection: Connection | None = None
        try:
            opened = await self._host.open_connection(self)
            if isinstance(opened, Connection):
                connection = self.connections[slot] = opened
                await self._use(slot, connection)
            else:
                self._could_not_open(slot, opened)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one connection must not stop the lane
            self._host.fault(error)
        finally:
            self._inboxes.pop(slot, None)
            self._tasks.pop(slot, None)
            self.connections.pop(slot, None)
            if connection is not None:
                connection.abort()
            self.planner.closed(slot)
            if not self.stopping:
                self.kick()

    def _could_not_open(self, slot: Slot, error: RouteError | SessionError) -> None:
        self.planner.closed(slot)
        self.planner.failed(str(error), self._clock(), random=random.random())
        self._host.unreachable(self, error)

    async def _use(self, slot: Slot, connection: Connection) -> None:
        if self.stopping:
            await connection.quit()
            return
        self.planner.connected(slot, self._clock())
        while True:
            work = await self._next(slot, connection)
            if work is None:
                break
            reusable = await self._transact(connection, work)
            keep = reusable and connection.usable and not self.stopping
            if not self.planner.finished(slot, self._clock(), reusable=keep):
                break
            self._host.hungry(self)
        if connection.usable:
            await connection.quit()

    async def _next(self, slot: Slot, connection: Connection) -> Work | None:
        """Wait for the planner to assign a work; None: close."""
        inbox: asyncio.Future[Work | None] = self._loop.create_future()
        self._inboxes[slot] = inbox
        connection.on_close = lambda: self._hung_up(slot, inbox)
        self.kick()
        return await inbox

    def _hung_up(self, slot: Slot, inbox: asyncio.Future[Work | None]) -> None:
        """The peer closed an idle connection (a busy one reports through its transaction)."""
        if not inbox.done():
            self._inboxes.pop(slot, None)
            self.planner.closed(slot)
            inbox.set_result(None)

    async def _transact(self, connection: Connection, work: Work) -> bool:
        """Carry a work through. Returns whether the connection is still of use."""
        try:
            outgoing = await self._host.outgoing(self, work, connection.features)
        except Exception as error:  # noqa: BLE001 - no memory, no thread: nothing was sent, and it must not stay in hand
            self._host.fault(error)
            text = f"the stored message can't be read: {type(error).__name__}"
            self._host.broken(self, work, SessionError(Stage.MAIL, "local", text))
            return connection.usable
        if outgoing is None:
            return connection.usable
        try:
            result = await connection.send(outgoing)
        except SessionError as error:
            self._host.broken(self, work, error)
            return False
        except asyncio.CancelledError:
            # Whether the peer took it is unknown, so it will be tried again: at least once, never lost.
            self._host.interrupted(work)
            raise
        self._host.sent(self, work, result)
        return result.reusable
