"""The asynchronous part of a lane: carries out the planner's plans on sessions and reports the results to the planner.

Each session has one task; messages have none, because a task per message would cost memory and time. The runner does
not depend on the queue, routing or protocols: a `LaneHost` opens sessions and makes attempts.
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
    """What a lane needs from the delivery service."""

    async def open(self, lane: "LaneRunner") -> Session | Failure:
        """Open a session with the lane's peer, or return why none could be opened. Does not raise."""
        ...

    def unreachable(self, lane: "LaneRunner", failure: Failure) -> None:
        """Handle a failure to open a session. The lane is already paused; the works in its window must be deferred."""
        ...

    async def attempt(self, lane: "LaneRunner", session: Session, work: Work) -> bool:
        """Make one attempt, from reading the body to recording the outcome. Returns whether the session is reusable."""
        ...

    def hungry(self, lane: "LaneRunner") -> None:
        """The lane has room for more works: claim some."""
        ...


class LaneRunner:
    """One worker's share of a lane: planner, sessions, and the destinations known to have due mail in the queue."""

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
        """The latest known route. Its hosts may change during the lane's life; TLS policy, port and user cannot."""
        self.domain = domain
        """The only domain that the lane serves, if that domain has its own limits; otherwise empty."""
        self.whole = planner.limits
        """The limits of the whole lane, over all shares."""
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
        """Whether the lane has works, open sessions, due destinations or a claim in progress."""
        return bool(self.planner.window.size or self._tasks or self.waiting or self.claiming)

    @property
    def paused(self) -> bool:
        """Whether the lane is paused after a failure that concerns the whole lane."""
        return self._clock() < self.planner.paused_until

    def room(self, stream: str) -> int:
        """Return how many more works of a stream may be added."""
        return self.planner.room(stream, self._clock())

    def add(self, work: Work) -> None:
        """Add a work; it starts at once where the limits allow."""
        self.planner.window.add(work)
        self.kick()

    def put_back(self, work: Work) -> None:
        """Return a started but unsent work to the window, as the next of its stream."""
        self.planner.window.put_back(work)

    def fail(self, cause: str, seconds: float = 0.0) -> bool:
        """Pause the lane after a failure, for `seconds` if not 0. Returns False if it was already paused."""
        now = self._clock()
        if now < self.planner.paused_until:
            return False
        self.planner.failed(cause, now, random=random.random(), seconds=seconds)
        return True

    def pause_left(self) -> float:
        """Return the seconds until the lane's pause ends; 0 if it is not paused."""
        return max(0.0, self.planner.paused_until - self._clock())

    def kick(self) -> None:
        """Make a plan and carry it out. Call after each change of the window, the limits or a slot."""
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
        """Whether all sessions have ended."""
        return not self._tasks

    def retire(self) -> None:
        """Start no further works. Idle sessions close at once, busy ones after their current transaction."""
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
                # It carries no work yet, and an address that never answers would delay the stop by the whole time-out.
                task.cancel()

    async def stop(self) -> None:
        """Retire, and wait until all sessions are closed. Cancelling ends the wait, not the sessions."""
        self.retire()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def abort(self) -> None:
        """Cancel all sessions. Works being sent return to the queue."""
        for task in self._tasks.values():
            task.cancel()

    def _wake_at(self, at: float | None) -> None:
        """Call `kick` at `at` or earlier. An early timer only causes one extra plan, so it is kept and not re-armed."""
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
        """Wait until the planner assigns a work; None means that the session must close."""
        inbox: asyncio.Future[Work | None] = self._loop.create_future()
        self._inboxes[slot] = inbox
        session.on_close = lambda: self._hung_up(slot, inbox)
        self.kick()
        return await inbox

    def _hung_up(self, slot: Slot, inbox: asyncio.Future[Work | None]) -> None:
        """Handle the close of an idle session by the peer. A busy session reports it through its transaction."""
        if not inbox.done():
            self._inboxes.pop(slot, None)
            self.planner.closed(slot)
            inbox.set_result(None)
