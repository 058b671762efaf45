"""One work's way, from its turn in the lane to the record of what became of it. Reads from top to bottom.

Implements the lane's host. Whatever goes wrong here ends as an outcome or gives the recipients back: none stays
claimed.
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
        """See `LaneHost`. Set once everything exists: claims need lanes, and lanes need a host."""

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
            # Whether the peer took it is unknown, so it will be tried again: at least once, never lost.
            self._outcomes.interrupted(work)
            raise
        except Exception as error:  # noqa: BLE001 - no memory, no thread: it must not stay claimed
            self._recorder.problem("delivery", error)
            text = f"the stored message can't be read: {type(error).__name__}"
            report = Report([judge_local(text)] * len(work.recipients), Progress.NOTHING, reusable=session.usable)
        if report.stale and not work.retried:
            # The peer had given up an idle session: no attempt was made.
            work.retried = True
            lane.put_back(work)
            return False
        self._outcomes.attempted(lane, work, report)
        return report.reusable

    async def _parcel(self, work: Work) -> Parcel:
        """The work with its content. Raises `BodyDamagedError`."""
        message, body = work.message, work.body
        if body is None or body.file is not None:
            body = work.body = await self._read(message, body)
        if body.file is None:
            return Parcel(message, work.recipients, body.head)
        return Parcel(message, work.recipients, body.head, lambda: self._queue.open_file(body))

    async def _read(self, message: Message, body: Body | None) -> Body:
        """The body from the queue. Of a large one, the file is checked to be there and whole."""
        if body is None:
            body = await self._queue.head(message.id)
        if body.file is not None:
            size = len(body.head) + body.file_size
            if size != message.size:
                # One of two rows is damaged. No later attempt could repair that, so it must not wait for its expiry.
                raise BodyDamagedError(f"its body has {size} bytes, not {message.size}")
            await asyncio.to_thread(_try_file, self._queue, body)
        return body


def _nobody(_lane: LaneRunner) -> None:
    """Nothing is claimed yet."""


def _try_file(queue: Queue, body: Body) -> None:
    queue.open_file(body).close()
