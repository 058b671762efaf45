"""Makes one delivery attempt: from the start of a work in its lane to the record of its outcome.

Implements `LaneHost`. Every error here ends either as an outcome or in returning the recipients to the queue, because a
recipient that stays claimed is not delivered until the next start.
"""

import asyncio
from collections.abc import Callable

from relay.delivery.outcome import judge_local
from relay.delivery.outcomes import Outcomes
from relay.delivery.runner import LaneRunner
from relay.delivery.smtp_transport import SmtpTransport
from relay.delivery.transport import Failure, Parcel, Progress, Report, Session
from relay.delivery.work import Work, fit
from relay.events.recorder import Recorder
from relay_queue.model import Body, Message
from relay_queue.protocol import BodyDamagedError, Queue


class Attempts:
    """Makes attempts for all lanes of a worker."""

    def __init__(
        self,
        queue: Queue,
        transport: SmtpTransport,
        outcomes: Outcomes,
        recorder: Recorder,
    ) -> None:
        self._queue = queue
        self._transport = transport
        self._outcomes = outcomes
        self._recorder = recorder
        self.hungry: Callable[[LaneRunner], None] = _nobody
        """See `LaneHost`. Set after construction, because claims need lanes and lanes need a host."""

    async def open(self, lane: LaneRunner) -> Session | Failure:
        """See `LaneHost`."""
        try:
            return await self._transport.open(lane.route)
        except Exception as error:  # noqa: BLE001 - a fault of ours in one session must not stop the lane
            self._recorder.problem("delivery", error)
            text = f"internal fault: {type(error).__name__}"
            return Failure(judge_local(text), text)

    def unreachable(self, lane: LaneRunner, failure: Failure) -> None:
        """See `LaneHost`."""
        try:
            self._outcomes.unreachable(lane, failure)
        except Exception as error:  # noqa: BLE001 - as in `open`
            self._recorder.problem("delivery", error)

    async def attempt(self, lane: LaneRunner, session: Session, work: Work) -> bool:
        """See `LaneHost`."""
        try:
            return await self._attempt(lane, session, work)
        except Exception as error:  # noqa: BLE001 - as in `open`
            self._recorder.problem("delivery", error)
            return False

    async def _attempt(self, lane: LaneRunner, session: Session, work: Work) -> bool:
        work, rest = fit(work, session.capacity)
        if rest is not None:
            lane.put_back(rest)
            lane.kick()
        try:
            parcel = await self._parcel(work)
            report = await session.send(parcel)
        except BodyDamagedError as error:
            self._recorder.problem("body", error)
            self._outcomes.quarantine(work, error)
            return session.usable
        except asyncio.CancelledError:
            # Whether the peer accepted the message is unknown. Try again: a duplicate is better than a lost message.
            self._outcomes.interrupted(work)
            raise
        except Exception as error:  # noqa: BLE001 - e.g. out of memory or threads; must not stay claimed
            self._recorder.problem("delivery", error)
            text = f"the stored message can't be read: {type(error).__name__}"
            report = Report([judge_local(text)] * len(work.recipients), Progress.NOTHING, reusable=session.usable)
        if report.stale and not work.retried:
            # The peer had closed the idle session, so this does not count as an attempt.
            work.retried = True
            lane.put_back(work)
            return False
        self._outcomes.attempted(lane, work, report)
        return report.reusable

    async def _parcel(self, work: Work) -> Parcel:
        """Return the work with its content. Raises `BodyDamagedError`."""
        message, body = work.message, work.body
        if body is None or body.file is not None:
            body = work.body = await self._read(message, body)
        if body.file is None:
            return Parcel(message, work.recipients, body.head)
        return Parcel(message, work.recipients, body.head, lambda: self._queue.open_file(body))

    async def _read(self, message: Message, body: Body | None) -> Body:
        """Read the body from the queue. For a large body, check that its file exists and is complete."""
        if body is None:
            body = await self._queue.head(message.id)
        if body.file is not None:
            size = len(body.head) + body.file_size
            if size != message.size:
                # The message row and the body row disagree. Retrying cannot repair that, so do not wait for expiry.
                raise BodyDamagedError(f"its body has {size} bytes, not {message.size}")
            await asyncio.to_thread(_try_file, self._queue, body)
        return body


def _nobody(_lane: LaneRunner) -> None:
    """Default for `hungry` until claims exist: do nothing."""


def _try_file(queue: Queue, body: Body) -> None:
    queue.open_file(body).close()
