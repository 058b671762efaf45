"""The asynchronous shell of a lane: carries out the planner's plans on real sessions, and reports back.

One task for each session, none for each message. It knows nothing of the queue, of routes or of protocols: a `LaneHost`
opens sessions and sees works through.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from relay.delivery.lane import LanePlanner, Phase, Slot
from relay.delivery.routing import Route
from relay.delivery.transport import Failure, Session
from relay.delivery.waiting import Waiting
from relay.delivery.work import Work


class LaneHost(Protocol):
    """What a lane needs from the service around it."""

    async def open(self, lane: "LaneRunner") -> Session | Failure:
        """A session with the lane's peer, or why there is none."""
        ...

    def unreachable(self, lane: "LaneRunner", failure: Failure) -> None:
        """No session came about. The lane is paused already, and what is in its window must be deferred."""
        ...

    async def attempt(self, lane: "LaneRunner", session: Session, work: Work) -> bool:
        """See one work through, from its body to its record. Returns whether the session is of further use."""
        ...

    def hungry(self, lane: "LaneRunner") -> None:
        """The lane has room again."""
        ...


class LaneRunner:
    """One lane's share: planner, sessions, and the destinations that are known to have more due in the queue."""

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
        """The latest that is known; hosts may change while the lane stays, the manner of connecting never does."""
        self.domain = domain
        """The one domain that it serves, where that has limits of its own; otherwise empty."""
        self.whole = planner.limits
        """The limits of all its shares together."""
        self.sessions: dict[Slot, Session] = {}
        self.waiting = Waiting()
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
        """Whether anything is in memory or open."""
        return bool(self.planner.window.size or self._tasks or self.waiting or self.claiming)

    @property
    def paused(self) -> bool:
        """Whether the lane waits after a failure of its own."""
        return self._clock() < self.planner.paused_until

    def room(self, stream: str) -> int:
        """How many more works of a stream may be added."""
        return self.planner.room(stream, self._clock())

    def add(self, work: Work) -> None:
        """Add a work; it starts at once where the limits allow."""
        self.planner.window.add(work)
        self.kick()

    def put_back(self, work: Work) -> None:
        """A work that was started and not sent is the next to go."""
        self.planner.window.put_back(work)

    def fail(self, cause: str, seconds: float = 0.0) -> bool:
        """Pause after a failure of the lane's own, for `seconds` if given. False when the lane was paused already."""
        now = self._clock()
        if now < self.planner.paused_until:
            return False
        self.planner.failed(cause, now, random=random.random(), seconds=seconds)
        return True

    def pause_left(self) -> float:
        """Seconds until the lane's pause ends; 0 when it is not paused."""
        return max(0.0, self.planner.paused_until - self._clock())

    def kick(self) -> None:
        """Make a plan and carry it out."""
        if self.stopping:
            return
        now = self._clock()
        self.used_at = now
        plan = self.planner.plan(now)
        for slot, work in plan.start:
            self._inboxes.pop(slot).set_result(work)
        for slot in plan.open:
            self._tasks[slot] = self._loop.create_task(self._run(slot))
        for slot in plan.close:
            self._inboxes.pop(slot).set_result(None)
        self._wake_at(plan.wake_at)

    @property
    def ended(self) -> bool:
        """Whether no session is left."""
        return not self._tasks

    def retire(self) -> None:
        """Start nothing more; sessions close at once, or when the transaction on them has ended."""
        self.stopping = True
        self.waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for inbox in self._inboxes.values():
            if not inbox.done():
                inbox.set_result(None)
        self._inboxes.clear()
        for slot, task in self._tasks.items():
            if slot.phase is Phase.CONNECTING:
                # Nothing is on it yet, and an address that never answers would delay the stop by the whole time-out.
                task.cancel()

    async def stop(self) -> None:
        """Retire, and wait until all sessions are closed. Cancel to cut it short."""
        self.retire()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def abort(self) -> None:
        """Cut off all sessions; what was on the wire goes back to the queue."""
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

    async def _run(self, slot: Slot) -> None:
        session: Session | None = None
        try:
            opened = await self._host.open(self)
            if isinstance(opened, Failure):
                self.planner.closed(slot)
                self.planner.failed(opened.text, self._clock(), random=random.random())
                self._host.unreachable(self, opened)
            else:
                session = self.sessions[slot] = opened
                await self._use(slot, session)
        finally:
            self._inboxes.pop(slot, None)
            self._tasks.pop(slot, None)
            self.sessions.pop(slot, None)
            if session is not None:
                session.abort()
            self.planner.closed(slot)
            if not self.stopping:
                self.kick()

    async def _use(self, slot: Slot, session: Session) -> None:
        if self.stopping:
            await session.quit()
            return
        self.planner.connected(slot, self._clock())
        while True:
            work = await self._next(slot, session)
            if work is None:
                break
            reusable = await self._host.attempt(self, session, work)
            keep = reusable and session.usable and not self.stopping
            if not self.planner.finished(slot, self._clock(), reusable=keep):
                break
            self._host.hungry(self)
        if session.usable:
            await session.quit()

    async def _next(self, slot: Slot, session: Session) -> Work | None:
        """Wait for the planner to assign a work; None: close."""
        inbox: asyncio.Future[Work | None] = self._loop.create_future()
        self._inboxes[slot] = inbox
        session.on_close = lambda: self._hung_up(slot, inbox)
        self.kick()
        return await inbox

    def _hung_up(self, slot: Slot, inbox: asyncio.Future[Work | None]) -> None:
        """The peer closed an idle session (a busy one reports through its transaction)."""
        if not inbox.done():
            self._inboxes.pop(slot, None)
            self.planner.closed(slot)
            inbox.set_result(None)
