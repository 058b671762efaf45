"""Delivery in one worker: creates the parts, and starts and stops them in the right order.

The parts call each other in one direction:

    scanner, notices, admission -> claims -> dispatch -> lanes -> attempts -> outcomes -> marker -> queue

Two calls go in the opposite direction: a lane that has room again calls `claims`, and a stored DSN goes through
`admission` like any accepted message.
"""

import asyncio
import time
from collections.abc import Callable

from relay.delivery.admission import Admission
from relay.delivery.attempts import Attempts
from relay.delivery.claims import Claims
from relay.delivery.dispatch import Dispatcher
from relay.delivery.lanes import Lanes
from relay.delivery.marker import DsnBuilder, Marker
from relay.delivery.outcomes import Outcomes
from relay.delivery.reply_rules import rules as builtin_reply_rules
from relay.delivery.report import Reporting
from relay.delivery.report_records import WorkerReport
from relay.delivery.routing import Router
from relay.delivery.scanner import Scanner
from relay.delivery.smtp_transport import SmtpTransport
from relay.delivery.steering import Steering
from relay.delivery.tasks import Tasks
from relay.delivery.window import Budget
from relay.events.recorder import Recorder
from relay.model.notices import Notice
from relay_config.schema import Settings
from relay_config.streams import Streams
from relay_queue.model import Destination, Owner, Put
from relay_queue.protocol import Queue, QueueError

_CLEAN_UP_EVERY = 60.0
_BYTES_MOST = 64 << 20
"""Most bytes of bodies held in memory, per worker."""


class DeliveryService:
    """One worker's delivery. `notify(notice, worker)` sends a notice to another worker."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        recorder: Recorder,
        router: Router,
        dsn: DsnBuilder,
        *,
        owner: Owner,
        workers: int = 1,
        notify: Callable[[Notice, int], None] = lambda _notice, _worker: None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        streams = Streams(settings)
        self._recorder = recorder
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._router = router
        self._tasks = Tasks(recorder, "delivery")
        self.budget = Budget(_BYTES_MOST)
        self.marker = Marker(queue, recorder, dsn, owner=owner, wall=wall, admit=self.admit, offer=self.offer)
        self._outcomes = Outcomes(self.marker, recorder, streams, owner=owner, wall=wall)
        self._transport = SmtpTransport(settings, router)
        attempts = Attempts(queue, self._transport, self._outcomes, recorder)
        self.lanes = Lanes(
            settings, router, attempts, self.budget, worker=owner.worker, workers=workers, clock=self._loop.time
        )
        self._dispatcher = Dispatcher(
            self.lanes,
            self.marker,
            self._outcomes,
            self._tasks,
            self.budget,
            recipients_per_message=settings.delivery.recipients_per_message,
            notify=notify,
            wall=wall,
        )
        self._claims = Claims(
            queue,
            self.lanes,
            self._dispatcher,
            self._outcomes,
            self.marker,
            self._tasks,
            streams,
            owner=owner,
            wall=wall,
        )
        parts = (self.lanes, self._dispatcher, self._claims, self.marker, self._tasks, self.budget)
        self._admission = Admission(*parts, owner=owner, wall=wall)
        attempts.hungry = self._claims.refill
        self._scanner = Scanner(queue, self._claims, recorder, wall)
        self.steering = Steering(queue, self.lanes, self.marker, recorder, self._scanner.wake, owner=owner, wall=wall)
        self._cleaner: asyncio.TimerHandle | None = None

    # -- the accept path ------------------------------------------------------------------------------------------

    def admit(self, put: Put) -> None:
        """See `Admission.admit`. Call before `put` is stored."""
        self._admission.admit(put)

    def offer(self, put: Put) -> None:
        """See `Admission.offer`. Call after `put` is durable."""
        self._admission.offer(put)

    # -- life -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load the suspensions and start scanning for due mail."""
        # Compile the rules in a thread now; otherwise the first refusal would block the loop for 0.1 s.
        self._loop.run_in_executor(None, builtin_reply_rules)
        await self.steering.reload_suspensions()
        self._tasks.spawn(self._scanner.run())
        self._cleaner = self._loop.call_later(_CLEAN_UP_EVERY, self._clean_up)

    async def stop(self, grace: float) -> None:
        """Stop delivery: let running transactions end within `grace` seconds and return all other mail to the queue."""
        if self._cleaner is not None:
            self._cleaner.cancel()
        self.steering.stop()
        self._claims.stopping = self._admission.stopping = True
        await self._tasks.cancel()
        self._dispatcher.release()
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
            self.marker.release(lane.planner.window.drain(), due_at=now)
        await self.marker.flush()

    def halt(self) -> None:
        """Start no further works, because outcomes can no longer be recorded and mail would be delivered repeatedly."""
        self._claims.stopping = self._admission.stopping = True
        for lane in self.lanes.running.values():
            lane.stopping = True

    def reload(self, settings: Settings) -> None:
        """Apply new settings. Running transactions end under the old ones; works in memory are routed again."""
        streams = Streams(settings)
        self._transport.reload(settings)
        self._router.reload(settings)
        self._outcomes.streams = self._claims.streams = streams
        self._dispatcher.recipients_per_message = settings.delivery.recipients_per_message
        waiting = self.lanes.reload(settings)
        try:
            self.marker.release(waiting, due_at=self._wall())
        except QueueError as error:
            self._recorder.problem("reload", error)
        self._scanner.wake()

    # -- notices from the CLI and other workers ----------------------------------------------------------------------

    def due(self, destination: Destination | None) -> None:
        """Handle a notice that mail for the destination (None: any destination) may be due."""
        if destination is None:
            self._scanner.wake()
        else:
            self._claims.due(destination)

    def report(self) -> WorkerReport:
        """Return a report of what the lanes are doing."""
        return Reporting(self._wall(), self._loop.time()).report(self.lanes.all, self.lanes.suspended_sites)

    def _clean_up(self) -> None:
        self.lanes.clean_up()
        self._cleaner = self._loop.call_later(_CLEAN_UP_EVERY, self._clean_up)
