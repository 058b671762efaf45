"""Delivery in one worker: takes accepted mail from memory and due mail from the queue, and sees it through its lanes.

The accept path meets it in two calls: `admit` before a message is stored (which recipients can stay in hand?) and
`offer` after it is durable. Everything else comes from the queue: the scanner finds domains with due recipients, lanes
claim as they have room.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from relay.delivery.connector import Connector
from relay.delivery.intake import Intake
from relay.delivery.lanes import Lanes
from relay.delivery.marker import DsnBuilder, Marker
from relay.delivery.outcome import Outcome, judge_error, judge_pause, judge_reply, judge_route
from relay.delivery.reply_rules import rules as builtin_reply_rules
from relay.delivery.reply_settings import ReplyRules, origin_of
from relay.delivery.report import Reporting
from relay.delivery.report_records import WorkerReport
from relay.delivery.routing import RouteError, Router
from relay.delivery.runner import LaneRunner
from relay.delivery.verdict import Circumstances, Verdict, judge
from relay.delivery.wishes import take_out
from relay.delivery.work import Work, cut
from relay.events.recorder import Recorder
from relay.smtp.client.connection import Connection
from relay.smtp.client.features import Features
from relay.smtp.client.model import Outgoing, OutgoingRecipient, Result, SessionError
from relay.smtp.reply import Reply
from relay_config.schema import Settings
from relay_queue.model import Body, Entry, Message, Put
from relay_queue.protocol import BodyDamagedError, Queue, QueueError
from relay_queue.states import State

_SWEEP_EVERY = 60.0
_AGAIN = 5.0
"""Seconds after which the suspensions are read again when they could not be."""


class Delivery:
    """One worker's delivery. `notify(notice, slot)` wakes another worker."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        recorder: Recorder,
        router: Router,
        dsn: DsnBuilder,
        *,
        slot: int = 0,
        workers: int = 1,
        notify: Callable[[str, int], None] = lambda _notice, _slot: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._recorder = recorder
        self._slot = slot
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._reply_rules = ReplyRules(settings.reply_rule)
        self._connector = Connector(settings, router)
        self._router = router
        self.lanes = Lanes(settings, router, self, slot=slot, workers=workers, clock=self._loop.time)
        self.marker = Marker(queue, recorder, dsn, owner=slot, wall=wall, admit=self.admit, offer=self.offer)
        self._intake = Intake(self.lanes, queue, self.marker, recorder, self, slot=slot, notify=notify, wall=wall)
        self._sweeper: asyncio.TimerHandle | None = None
        self._resuming: asyncio.Task[None] | None = None
        """Waits for the first suspension to end."""

    def admit(self, put: Put) -> None:
        """Before `put` is stored: recipients that this worker can take from memory become ACTIVE and ours."""
        self._intake.admit(put)

    def offer(self, put: Put) -> None:
        """After `put` is durable: its recipients in hand go to their lanes; the others' owners are told."""
        self._intake.offer(put)

    async def start(self) -> None:
        """Begin to look for due mail."""
        # In a thread, as compiling takes too long for the loop; the first refusal would otherwise wait for it.
        self._loop.run_in_executor(None, builtin_reply_rules)
        await self.reload_suspensions()
        self._intake.start()
        self._sweeper = self._loop.call_later(_SWEEP_EVERY, self._sweep)

    async def stop(self, grace: float) -> None:
        """Start nothing more, give transactions on the wire `grace` seconds to end, give the rest back to the queue."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._resuming is not None:
            self._resuming.cancel()
        await self._intake.stop()
        lanes = self.lanes.all
        stopping = [asyncio.ensure_future(lane.stop()) for lane in lanes]
        if stopping:
            _, late = await asyncio.wait(stopping, timeout=grace)
            if late:
                for lane in lanes:
                    lane.abort()
                await asyncio.wait(late)
        now = self._wall()
        for lane in lanes:
            self.marker.release(tuple(lane.planner.ready), due_at=now)
            lane.planner.ready.clear()
        await self.marker.flush()

    def halt(self) -> None:
        """Outcomes can no longer be recorded: start nothing more, or it would be delivered again and again."""
        self._intake.halt()
        for lane in self.lanes.running.values():
            lane.stopping = True

    def reload(self, settings: Settings) -> None:
        """Take new settings. What is on the wire ends by the old ones; what waits in memory goes by the new ones."""
        self._settings = settings
        self._reply_rules = ReplyRules(settings.reply_rule)
        self._connector.reload(settings)
        self._router.reload(settings)
        waiting = self.lanes.reload(settings)
        try:
            self._give_back(waiting)
        except QueueError as error:
            self._recorder.problem("reload", error)
        self._intake.wake(None)

    # -- notices from shells and other workers ----------------------------------------------------------------------

    def due(self, domain: str | None) -> None:
        """Mail for the domain (None: any) may be due."""
        self._intake.wake(domain)

    async def reload_suspensions(self) -> None:
        """Read the suspensions again; what they stop goes back to the queue. Again when the first of them ends."""
        now = self._wall()
        lasting = [stop for stop in await self._queue.suspensions() if stop.until is None or stop.until > now]
        if self._resuming is not None and self._resuming is not asyncio.current_task():
            self._resuming.cancel()
        ends = [stop.until for stop in lasting if stop.until is not None]
        self._resuming = self._loop.create_task(self._resume(min(ends))) if ends else None
        self.lanes.suspend(lasting)
        for lane in self.lanes.running.values():
            stopped = [work for work in lane.planner.ready if self._stopped(lane, work)]
            if stopped:
                for work in stopped:
                    lane.planner.ready.remove(work)
                self._give_back(stopped)
        self._intake.wake(None)

    async def _resume(self, at: float) -> None:
        """Let mail go on when a suspension has ended by the wall clock."""
        while True:
            await asyncio.sleep(min(at - self._wall(), _SWEEP_EVERY))  # in steps, as that clock may jump
            try:
                await self.reload_suspensions()
            except QueueError as error:
                self._recorder.problem("suspensions", error)
                at = self._wall() + _AGAIN
            else:
                return

    async def withdraw(self) -> None:
        """Carry out what admins want of recipients in hand; those on the wire end first."""
        wishes = {(wish.message_id, wish.n): wish for wish in await self._queue.withdrawn(self._slot)}
        if not wishes:
            return
        for lane in self.lanes.running.values():
            for work in list(lane.planner.ready):
                taken = take_out(work, wishes)
                if taken and not work.recipients:
                    lane.planner.ready.remove(work)
                    self._intake.left(work)
                for state, recipients in taken.items():
                    self.marker.settle(Work(work.message, recipients, work.body), state)

    def report(self) -> WorkerReport:
        """What the lanes are doing, for people."""
        return Reporting(self._wall(), self._loop.time()).report(self.lanes.all, self.lanes.suspended_sites)

    # -- LaneHost ---------------------------------------------------------------------------------------------------

    async def open_connection(self, lane: LaneRunner) -> Connection | RouteError | SessionError:
        """Connect to the first of the lane's addresses that takes us."""
        return await self._connector.open(lane.route)

    async def outgoing(self, lane: LaneRunner, work: Work, features: Features) -> Outgoing | None:
        """The transaction for a work, its body read; None if it can't be read (and is quarantined)."""
        over = cut(work, features)
        if over is not None:
            self._put_back(lane, over)
            lane.kick()
        message = work.message
        body = work.body
        if body is None or body.file is not None:
            try:
                body = await self._read(message, body)
            except BodyDamagedError as error:
                self._quarantine(work, error)
                return None
            work.body = body
        return Outgoing(
            message.sender,
            [OutgoingRecipient(r.address, r.notify, r.orcpt) for r in work.recipients],
            body.head,
            message.size,
            message.eightbit,
            message.smtputf8,
            message.ret,
            message.envid,
            None if body.file is None else lambda: self._queue.open_file(body),
            file_checked=body.file is not None,
        )

    async def _read(self, message: Message, body: Body | None) -> Body:
        """The body from the queue; of a large one, its file is seen to be there and whole."""
        if body is None:
            body = await self._queue.head(message.id)
        if body.file is not None:
            if len(body.head) + body.file_size != message.size:
                # One of two rows is damaged. No later attempt could mend that, so it is not left to expire.
                raise BodyDamagedError(f"its body has {len(body.head) + body.file_size} octets, not {message.size}")
            await asyncio.to_thread(_try_file, self._queue, body)
        return body

    @property
    def recipients_per_message(self) -> int:
        """Most recipients in one transaction."""
        return self._settings.delivery.recipients_per_message

    def started(self, work: Work) -> None:
        """The work left the window for the wire."""
        self._intake.left(work)

    def hungry(self, lane: LaneRunner) -> None:
        """The lane has room again."""
        if lane.due:
            self._intake.refill(lane)

    def sent(self, lane: LaneRunner, work: Work, result: Result) -> None:
        """The peer answered for every recipient."""
        outcomes = [self._judge_reply(lane, work, n, reply) for n, reply in enumerate(result.replies)]
        pause = next((outcome for outcome in outcomes if outcome.lane_fault), None)
        if pause is not None:
            self._pause(lane, pause.text, pause.pause)
        elif lane.planner.failures:
            lane.planner.succeeded()
            self._recorder.lane(lane.name, "resumed", "")
        self._judge(lane, work, outcomes, result.remote, peer_reports=result.dsn, unasked=result.unasked)

    def broken(self, lane: LaneRunner, work: Work, error: SessionError) -> None:
        """The connection broke while the work was on it."""
        if error.fresh_connection_helps and not work.retried:
            # An idle connection that the peer had given up: no attempt was made.
            work.retried = True
            self._put_back(lane, work)
            return
        if isinstance(error.__cause__, BodyDamagedError):
            # Noticed while it was being read to the peer, who got no end of it.
            self._quarantine(work, error.__cause__)
            return
        whole = judge_error(error)
        outcomes = [
            whole if reply is None or reply.code < 400 else self._judge_reply(lane, work, n, reply)
            for n, reply in enumerate(error.partial or [None] * len(work.recipients))
        ]
        if whole.lane_fault:
            self._pause(lane, whole.text)
        unanswered = frozenset[int]()
        if error.reply is None:
            unanswered = frozenset(n for n, outcome in enumerate(outcomes) if outcome is whole)
        self._judge(lane, work, outcomes, error.remote or None, unasked=unanswered)

    def interrupted(self, work: Work) -> None:
        """We cut the connection off ourselves."""
        self.marker.release([work], due_at=self._wall())

    def unreachable(self, lane: LaneRunner, error: RouteError | SessionError) -> None:
        """No connection could be made: what is ready shares the failure."""
        self._recorder.lane(lane.name, "paused", str(error), self._paused_until(lane))
        if isinstance(error, RouteError):
            self.defer_ready(lane, judge_route(error), None)
        else:
            self.defer_ready(lane, judge_error(error), error.remote if error.reply is not None else None)

    def _give_back(self, works: Sequence[Work]) -> None:
        """Works that were in a window go back to the queue without an attempt, due now."""
        for work in works:
            self._intake.left(work)
        self.marker.release(works, due_at=self._wall())

    def _put_back(self, lane: LaneRunner, work: Work) -> None:
        """A work that had left the window, or a part of it, is the next to go."""
        if lane.stopping:
            self.marker.release([work], due_at=self._wall())
            return
        lane.planner.ready.appendleft(work)
        self._intake.returned(work)

    def fault(self, error: BaseException) -> None:
        """An internal fault in a connection's task."""
        self._recorder.problem("delivery", error)

    def defer_ready(self, lane: LaneRunner, outcome: Outcome, remote: str | None) -> None:
        """All works in the window share an outcome of the lane's own. `remote`: the server that gave it, if one did."""
        works = list(lane.planner.ready)
        lane.planner.ready.clear()
        for work in works:
            self._intake.left(work)
            self._judge(lane, work, [outcome] * len(work.recipients), remote)

    def reject(self, entry: Entry, error: RouteError, lane: str) -> None:
        """Mail whose domain has no route: failed or deferred without a lane."""
        work = Work(entry.message, entry.recipients, None)
        self._record(work, [judge_route(error)] * len(entry.recipients), lane, None, not_before=0.0)

    def share_pause(self, lane: LaneRunner, entry: Entry) -> None:
        """Mail claimed for a paused lane is deferred with the lane's cause."""
        work = Work(entry.message, entry.recipients, None)
        self._judge(lane, work, [judge_pause(lane.planner.cause)] * len(entry.recipients), None)

    def _judge(
        self,
        lane: LaneRunner,
        work: Work,
        outcomes: list[Outcome],
        remote: str | None,
        *,
        peer_reports: bool = False,
        unasked: frozenset[int] = frozenset(),
    ) -> None:
        not_before = self._paused_until(lane)
        self._record(
            work, outcomes, lane.name, remote, not_before=not_before, peer_reports=peer_reports, unasked=unasked
        )

    def _record(
        self,
        work: Work,
        outcomes: list[Outcome],
        lane: str,
        remote: str | None,
        *,
        not_before: float,
        peer_reports: bool = False,
        unasked: frozenset[int] = frozenset(),
    ) -> None:
        now = self._wall()
        around = Circumstances(
            self._slot,
            now,
            lane,
            remote,
            self._settings.retry,
            random.random,
            peer_reports,
            not_before,
            unasked,
        )
        verdict: Verdict = judge(work, outcomes, around)
        self.marker.record(work, verdict, now)

    def _judge_reply(self, lane: LaneRunner, work: Work, n: int, reply: Reply) -> Outcome:
        if reply.code < 300:
            return judge_reply(reply)
        return judge_reply(reply, self._reply_rules, origin_of(lane.route, work.recipients[n].domain))

    def _pause(self, lane: LaneRunner, cause: str, seconds: float = 0.0) -> None:
        planner = lane.planner
        if self._loop.time() >= planner.paused_until:
            planner.failed(cause, self._loop.time(), random=random.random(), seconds=seconds)
            self._recorder.lane(lane.name, "paused", cause, self._paused_until(lane))

    def _paused_until(self, lane: LaneRunner) -> float:
        """The lane's pause in seconds since the epoch (the planner counts on the loop's clock)."""
        left = lane.planner.paused_until - self._loop.time()
        return self._wall() + left if left > 0 else 0.0

    def _quarantine(self, work: Work, error: BodyDamagedError) -> None:
        self._recorder.problem("body", error)
        self.marker.settle(work, State.QUARANTINED, f"stored message is damaged: {error}")

    def _stopped(self, lane: LaneRunner, work: Work) -> bool:
        return (
            lane.planner.suspended is not None
            or work.message.user in self.lanes.suspended_users
            or any(self.lanes.suspended_domain(r.domain) for r in work.recipients)
        )

    def _sweep(self) -> None:
        self.lanes.sweep()
        self._sweeper = self._loop.call_later(_SWEEP_EVERY, self._sweep)


def _try_file(queue: Queue, body: Body) -> None:
    queue.open_file(body).close()
