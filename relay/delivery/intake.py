"""How mail comes into lanes: straight from memory after the commit, or claimed from the queue when due.

Memory is bounded: each lane's window, the octets of bodies kept, and the domains being routed at once. What does not
fit stays in the queue and is found by the scanner.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from relay.delivery.lanes import Elsewhere, Lanes, Placement
from relay.delivery.marker import Marker
from relay.delivery.routing import RouteError
from relay.delivery.runner import LaneRunner
from relay.delivery.work import Work, split
from relay.events.recorder import Recorder
from relay_queue.model import Body, Entry, Message, Put, Recipient
from relay_queue.protocol import Queue, QueueError
from relay_queue.states import State

_OCTETS_MOST = 64 << 20
"""Octets of bodies held for lanes, per worker."""
_ROUTING_MOST = 500
"""Domains being routed at once, per worker."""
_ROUTING_TOGETHER = 0.5
"""Seconds that recipients of one message wait for each other's routes."""
_CLAIM_MOST = 200
"""Recipients per claim: bounds the time one claim holds the queue's writer."""
_SCAN_PAGE = 500
_SCAN_EVERY = 1.0
"""Seconds between scans when nothing wakes the scanner; due times are met this closely at worst."""
_SCAN_SHARE = 20
"""A scan is followed by a pause of this many times its duration, so that it never takes more than 5 % of a core …"""
_SCAN_REST_MOST = 10.0
"""… but of this many seconds at most: a scan is also long when the machine stood still, and then much is due."""
_USER_SUSPENDED_FOR = 300.0


class IntakeHost(Protocol):
    """What the intake needs of the service."""

    @property
    def recipients_per_message(self) -> int:
        """Most recipients in one transaction."""
        ...

    def reject(self, entry: Entry, error: RouteError, lane: str) -> None:
        """Fail or defer mail that has no route."""
        ...

    def share_pause(self, lane: LaneRunner, entry: Entry) -> None:
        """Defer mail of a paused lane."""
        ...


class Intake:
    """Feeds the lanes of one worker."""

    def __init__(
        self,
        lanes: Lanes,
        queue: Queue,
        marker: Marker,
        recorder: Recorder,
        host: IntakeHost,
        *,
        slot: int,
        notify: Callable[[str, int], None],
        wall: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._queue = queue
        self._marker = marker
        self._recorder = recorder
        self._host = host
        self._slot = slot
        self._notify = notify
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._octets = 0
        self._routing: dict[str, list[tuple[Entry, Body]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._awake = asyncio.Event()
        self._stopping = False

    def start(self) -> None:
        """Start the scanner."""
        self._spawn(self._scan())

    def halt(self) -> None:
        """Claim and admit nothing more."""
        self._stopping = True

    async def stop(self) -> None:
        """Claim nothing more; give back what is being routed."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        works = [
            Work(entry.message, entry.recipients, None) for waiting in self._routing.values() for entry, _ in waiting
        ]
        self._routing.clear()
        self._marker.release(works, due_at=self._wall())

    def wake(self, domain: str | None) -> None:
        """Something may be due: look now."""
        if domain is None:
            self._awake.set()
        else:
            self._domain_due(domain)

    def left(self, work: Work) -> None:
        """A work left its window."""
        self._octets -= work.octets

    def returned(self, work: Work) -> None:
        """A work that had left its window is in it again."""
        self._octets += work.octets

    # -- from memory --------------------------------------------------------------------------------------------------

    def admit(self, put: Put) -> None:
        """Decide per recipient whether it stays in hand."""
        now = self._wall()
        fits = not self._stopping and self._octets < _OCTETS_MOST
        for recipient in put.entry.recipients:
            recipient.due_at = now
            if fits and self._takes(recipient.domain, now):
                recipient.state = State.ACTIVE
                recipient.owner = self._slot

    def offer(self, put: Put) -> None:
        """Bring the recipients in hand to their lanes, and tell the owners of the others."""
        message, recipients = put.entry.message, put.entry.recipients
        now = self._wall()
        if len(recipients) == 1:
            self._offer(message, recipients, put.body, self._lanes.cached(recipients[0].domain, now))
            return
        self._marker.expect(message.id, len(_in_hand(put)))
        unknown = {r.domain for r in recipients if self._lanes.cached(r.domain, now) is None}
        if len(unknown) > 1:
            self._spawn(self._route_together(put, unknown))
        else:
            self._offer_groups(put, now)

    def _offer_groups(self, put: Put, now: float) -> None:
        """One transaction for all recipients that share a lane."""
        groups: dict[tuple[str | int, State], tuple[Placement | None, list[Recipient]]] = {}
        for recipient in put.entry.recipients:
            placement = self._lanes.cached(recipient.domain, now)
            where = id(placement) if isinstance(placement, LaneRunner) else recipient.domain
            groups.setdefault((where, recipient.state), (placement, []))[1].append(recipient)
        for placement, group in groups.values():
            self._offer(put.entry.message, group, put.body, placement)

    async def _route_together(self, put: Put, domains: set[str]) -> None:
        """Give DNS a moment, so that domains at one site share a transaction the first time too."""
        routing = [self._loop.create_task(self._lanes.learn(domain)) for domain in domains]
        try:
            await asyncio.wait(routing, timeout=_ROUTING_TOGETHER)
        except asyncio.CancelledError:
            self._marker.release([Work(put.entry.message, _in_hand(put), None)], due_at=self._wall())
            raise
        finally:
            for task in routing:
                task.cancel()
        self._offer_groups(put, self._wall())

    def _takes(self, domain: str, now: float) -> bool:
        placement = self._lanes.cached(domain, now)
        if placement is None:
            return domain in self._routing or len(self._routing) < _ROUTING_MOST
        if isinstance(placement, LaneRunner):
            return placement.planner.room(self._loop.time()) > 0
        return isinstance(placement, RouteError)

    def _offer(self, message: Message, group: list[Recipient], body: Body, placement: Placement | None) -> None:
        """A group of recipients of one message with the same placement and state."""
        if group[0].state is not State.ACTIVE:
            if isinstance(placement, Elsewhere):
                for domain in {recipient.domain for recipient in group}:
                    self._notify(f"due {domain}", placement.owners[0])
            else:
                for domain in {recipient.domain for recipient in group}:
                    self._domain_due(domain)
            return
        entry = Entry(message, group)
        if placement is None:
            self._route(group[0].domain, entry, body)
        else:
            self._dispatch(entry, body, placement)

    def _dispatch(self, entry: Entry, body: Body | None, placement: Placement) -> None:
        """Bring recipients in hand to where they belong."""
        message, group = entry.message, entry.recipients
        if isinstance(placement, LaneRunner) and placement.stopping:
            # A reload has replaced the lane while this was claimed for it.
            self._marker.release([Work(message, group, None)], due_at=self._wall())
        elif isinstance(placement, LaneRunner):
            planner = placement.planner
            if self._loop.time() < planner.paused_until:
                self._host.share_pause(placement, entry)
            elif message.user is not None and message.user in self._lanes.suspended_users:
                self._put_back_suspended(entry)
            else:
                self._add(placement, entry, body)
        elif isinstance(placement, RouteError):
            self._host.reject(entry, placement, group[0].domain)
        else:
            self._marker.release([Work(message, group, None)], due_at=self._wall())
            if isinstance(placement, Elsewhere):
                self._notify(f"due {group[0].domain}", placement.owners[0])

    def _add(self, lane: LaneRunner, entry: Entry, body: Body | None) -> None:
        for work in split(entry.message, entry.recipients, body, self._host.recipients_per_message):
            self._octets += work.octets
            lane.add(work)

    def _put_back_suspended(self, entry: Entry) -> None:
        suspension = self._lanes.suspended_users[entry.message.user or ""]
        due_at = min(suspension.until or float("inf"), self._wall() + _USER_SUSPENDED_FOR)
        works = [Work(entry.message, entry.recipients, None)]
        self._marker.release(works, due_at=due_at)

    def _route(self, domain: str, entry: Entry, body: Body) -> None:
        """Ask DNS; mail for the same domain meanwhile joins."""
        self._octets += len(body.head)
        waiting = self._routing.get(domain)
        if waiting is not None:
            waiting.append((entry, body))
            return
        self._routing[domain] = [(entry, body)]
        self._spawn(self._routed(domain))

    async def _routed(self, domain: str) -> None:
        """Dispatch what waits for the domain's route."""
        placement = await self._lanes.place(domain)
        for entry, body in self._routing.pop(domain):
            self._octets -= len(body.head)
            self._dispatch(entry, body, placement)

    # -- from the queue ---------------------------------------------------------------------------------------------

    def refill(self, lane: LaneRunner) -> None:
        """Claim for a lane that has room and due domains."""
        if not lane.claiming and not self._stopping and lane.planner.room(self._loop.time()):
            lane.claiming = True
            self._spawn(self._claim(lane))

    def _domain_due(self, domain: str) -> None:
        if self._stopping:
            return
        placement = self._lanes.cached(domain, self._wall())
        if placement is None:
            if domain not in self._routing and len(self._routing) < _ROUTING_MOST:
                self._routing[domain] = []
                self._spawn(self._look_up(domain))
        else:
            self._found_due(domain, placement)

    async def _look_up(self, domain: str) -> None:
        await self._routed(domain)
        placement = self._lanes.cached(domain, self._wall())
        if placement is not None:
            self._found_due(domain, placement)

    def _found_due(self, domain: str, placement: Placement) -> None:
        if isinstance(placement, LaneRunner):
            if self._loop.time() < placement.planner.paused_until and placement.planner.suspended is None:
                self._spawn(self._share_pause(domain, placement))
            else:
                placement.due[domain] = None
                self.refill(placement)
        elif isinstance(placement, RouteError):
            self._spawn(self._reject_due(domain, placement))

    async def _claim(self, lane: LaneRunner) -> None:
        try:
            while lane.due and not self._stopping and not lane.stopping:
                room = lane.planner.room(self._loop.time())
                if not room:
                    return
                domain = next(iter(lane.due))
                del lane.due[domain]
                limit = min(room, _CLAIM_MOST)
                entries = await self._take(domain, limit)
                if sum(len(entry.recipients) for entry in entries) >= limit:
                    lane.due[domain] = None
                for entry in entries:
                    self._dispatch(entry, None, lane)
        finally:
            lane.claiming = False

    async def _share_pause(self, domain: str, lane: LaneRunner) -> None:
        if lane.claiming:
            return
        lane.claiming = True
        try:
            for entry in await self._take(domain, _CLAIM_MOST):
                self._dispatch(entry, None, lane)
        finally:
            lane.claiming = False

    async def _reject_due(self, domain: str, error: RouteError) -> None:
        for entry in await self._take(domain, _CLAIM_MOST):
            self._host.reject(entry, error, domain)

    async def _take(self, domain: str, limit: int) -> list[Entry]:
        """Claim, and let failures of one message find each other."""
        entries = await self._queue.claim(self._slot, domain, limit, self._wall())
        for entry in entries:
            self._marker.expect(entry.message.id, len(entry.recipients))
        return entries

    async def _scan(self) -> None:
        """Find due domains, again and again."""
        while True:
            self._awake.clear()
            began = self._loop.time()
            try:
                soonest = await self._scan_once()
            except QueueError as error:
                self._recorder.problem("scan", error)
                soonest = None
            rest = _SCAN_EVERY if soonest is None else min(_SCAN_EVERY, soonest - self._wall())
            took = self._loop.time() - began
            rest = max(rest, 0.01, min(took * _SCAN_SHARE, _SCAN_REST_MOST))
            try:
                async with asyncio.timeout(rest):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def _scan_once(self) -> float | None:
        """One pass over all domains; returns the earliest time that something not yet due becomes due."""
        soonest: float | None = None
        after = ""
        while True:
            now = self._wall()
            page = await self._queue.due(now, after, _SCAN_PAGE)
            for domain, due_at in page:
                if due_at <= now:
                    self._domain_due(domain)
                elif soonest is None or due_at < soonest:
                    soonest = due_at
            if len(page) < _SCAN_PAGE:
                return soonest
            after = page[-1][0]

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._recorder.problem("delivery", error)


def _in_hand(put: Put) -> list[Recipient]:
    return [recipient for recipient in put.entry.recipients if recipient.state is State.ACTIVE]
