"""Records outcomes in the queue, stores the resulting DSNs in the same transaction, and reports the events.

This is the only module of delivery that writes outcomes. It reports events and passes on DSNs only after the marks are
durable.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from relay.delivery.gathering import Gathering
from relay.delivery.verdict import Verdict, after, mark_as
from relay.delivery.work import Work
from relay.events.recorder import Recorder
from relay.message.dsn.wanted import returned_whole
from relay_queue.model import Body, Entry, Mark, Message, Owner, Put, Recipient
from relay_queue.protocol import BodyDamagedError, Queue, QueueError
from relay_queue.states import State

_AGAIN = 60.0
"""Seconds until the next attempt if an outcome could not be recorded because the message could not be read."""


class DsnBuilder(Protocol):
    """Builds a DSN about some recipients of a message; returns None if no DSN is wanted."""

    def __call__(self, kind: str, entry: Entry, original: bytes, now: float) -> Put | None:
        """`kind` is failure, delay or success. `original` is the message, or at least its header."""
        ...


class Marker:
    """Writes marks. `admit` and `offer` hand DSNs to delivery like any other accepted message."""

    def __init__(
        self,
        queue: Queue,
        recorder: Recorder,
        dsn: DsnBuilder,
        *,
        owner: Owner,
        wall: Callable[[], float],
        admit: Callable[[Put], None],
        offer: Callable[[Put], None],
    ) -> None:
        self._queue = queue
        self._recorder = recorder
        self._dsn = dsn
        self._owner = owner
        self._wall = wall
        self._admit = admit
        self._offer = offer
        self._gathering = Gathering(self._record_gathered)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unwritten = 0
        self._settled = asyncio.Event()

    def expect(self, message_id: str, count: int) -> None:
        """Announce `count` claimed recipients of a message, so that their failures share a DSN."""
        self._gathering.expect(message_id, count)

    def record(self, work: Work, verdict: Verdict, now: float) -> None:
        """Record a verdict, with DSNs if wanted. Failures may be held for those of the message's other recipients."""
        message = work.message
        others = self._gathering.ended(message.id, len(work.recipients))
        failed = verdict.failed
        # Only failures that cause a DSN are held; holding others would delay their records without any benefit.
        told = failed and message.sender and any(_may_want("failure", recipient) for recipient in failed)
        if told and (others or self._gathering.holds(message.id)):
            work, verdict = self._gathering.hold(work, verdict)
        if verdict.marks:
            self._record(work, verdict, now)
        if not others:
            self._gathering.release(message.id)

    def _record_gathered(self, work: Work, verdict: Verdict) -> None:
        try:
            self._record(work, verdict, self._wall())
        except QueueError as error:
            # The caller is a timer or handles another message. The recipients stay claimed until the next start.
            self._recorder.problem("mark", error)

    def _record(self, work: Work, verdict: Verdict, now: float) -> None:
        """Write the marks. Reads the original from the queue only if a DSN needs it and it is not in memory."""
        wanted = _wanted(work.message, verdict)
        if not wanted:
            self._mark(work.message, work.recipients, verdict.marks, ())
        elif work.body is not None and (work.body.file is None or not _returned(work.message, wanted)):
            self._mark(work.message, work.recipients, verdict.marks, self._notices(work, wanted, work.body.head, now))
        else:
            self._spawn(self._record_reading(work, verdict, wanted, now))

    def release(self, works: Sequence[Work], *, due_at: float) -> None:
        """Return recipients to the queue without an attempt; `due_at` is in seconds since the epoch."""
        now = self._wall()
        marks = []
        for work in works:
            if not self._gathering.ended(work.message.id, len(work.recipients)):
                self._gathering.release(work.message.id)
            marks += [mark_as(found, State.QUEUED, self._owner, now, due_at=due_at) for found in work.recipients]
        if marks:
            self._write(marks, (), lambda _: None)

    def settle(self, work: Work, state: State, reply: str | None = None) -> None:
        """Quarantine all recipients of a work, with `reply` as the cause, or carry out an administrator's action.

        An administrator's reason is kept in `Recipient.reason` and never replaces the last reply of a server.
        """
        now = self._wall()
        verdict = Verdict()
        for recipient in work.recipients:
            # An administrator's action has no reply; the queue recognises it by that.
            mark = replace(mark_as(recipient, state, self._owner, now), reply=reply)
            verdict.marks.append(mark)
            if state is State.FAILED:
                verdict.failed.append(after(recipient, mark))
        # Do not wait for other recipients: the administrator expects the action at once.
        others = self._gathering.ended(work.message.id, len(work.recipients))
        self._record(work, verdict, now)
        if not others:
            self._gathering.release(work.message.id)

    async def flush(self) -> None:
        """Wait until all marks, and the DSNs and marks that follow from them, are durable or have failed."""
        self._gathering.release_all()
        while self._tasks or self._unwritten:
            self._settled.clear()
            await self._settled.wait()

    async def _record_reading(
        self,
        work: Work,
        verdict: Verdict,
        wanted: list[tuple[str, list[Recipient]]],
        now: float,
    ) -> None:
        try:
            original = await self._original(work, whole=_returned(work.message, wanted))
        except QueueError as error:
            # The DSN cannot be built now, and the recipients must not stay claimed, so they are tried again.
            self._recorder.problem("dsn", error)
            self.release([work], due_at=self._wall() + _AGAIN)
            return
        self._mark(work.message, work.recipients, verdict.marks, self._notices(work, wanted, original, now))

    async def _original(self, work: Work, *, whole: bool) -> bytes:
        """Read the message's header, or the whole message if `whole`; return as much as can be read."""
        try:
            body = work.body or await self._queue.head(work.message.id)
        except BodyDamagedError as error:
            self._recorder.problem("dsn", error)
            return b"\r\n"
        if not whole or body.file is None:
            return body.head
        try:
            return body.head + await asyncio.to_thread(_read_file, self._queue, body)
        except (BodyDamagedError, OSError, RuntimeError, MemoryError) as error:
            # Damaged, or out of descriptors, threads or memory: the DSN contains at least the header.
            self._recorder.problem("dsn", error)
            return body.head

    def _notices(
        self, work: Work, wanted: list[tuple[str, list[Recipient]]], original: bytes, now: float
    ) -> list[tuple[str, Put]]:
        puts = []
        for kind, recipients in wanted:
            put = self._dsn(kind, Entry(work.message, recipients), original, now)
            if put is not None:
                self._admit(put)
                puts.append((kind, put))
        return puts

    def _mark(
        self,
        message: Message,
        recipients: list[Recipient],
        marks: list[Mark],
        notices: Sequence[tuple[str, Put]],
    ) -> None:
        by_n = {recipient.n: recipient for recipient in recipients}

        def durable(refused: list[Mark]) -> None:
            failing = []
            gone = {mark.n for mark in refused}
            for mark in marks:
                if mark.n not in gone:
                    self._recorder.outcome(message, by_n[mark.n], mark)
                elif mark.state is State.QUEUED:
                    failing.append(after(by_n[mark.n], mark))
            # If the queue refused all marks, it did not store their DSNs either.
            for kind, put in notices if len(refused) < len(marks) else ():
                self._recorder.notified(kind, message, put.entry.message.id)
                self._recorder.accepted(put.entry, None)
                self._offer(put)
            if failing:
                # This deferral was refused because an administrator's fail action is pending. Carry it out now.
                self._spawn(self._fail(message, failing))

        self._write(marks, [put for _, put in notices], durable)

    async def _fail(self, message: Message, recipients: list[Recipient]) -> None:
        """Carry out an administrator's fail action, with the administrator's reason."""
        reasons: dict[tuple[str, int], str | None] = {}
        try:
            for pending in await self._queue.pending_actions(self._owner):
                reasons[pending.message_id, pending.n] = pending.reason
        except QueueError as error:
            self._recorder.problem("mark", error)
        failing = [replace(found, reason=reasons.get((found.message_id, found.n))) for found in recipients]
        self.settle(Work(message, failing, None), State.FAILED)

    def _write(self, marks: Sequence[Mark], notices: Sequence[Put], then: Callable[[list[Mark]], None]) -> None:
        def done(future: asyncio.Future[list[Mark]]) -> None:
            self._unwritten -= 1
            self._settled.set()
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._recorder.problem("mark", error)
            elif not future.cancelled():
                then(future.result())

        future = self._queue.mark(marks, notices)
        self._unwritten += 1
        future.add_done_callback(done)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._settled.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._recorder.problem("mark", error)


def _returned(message: Message, wanted: list[tuple[str, list[Recipient]]]) -> bool:
    """Whether one of the DSNs returns the whole message."""
    return any(returned_whole(kind, message) for kind, _ in wanted)


def _read_file(queue: Queue, body: Body) -> bytes:
    with queue.open_file(body) as file:
        return file.read()


def _wanted(message: Message, verdict: Verdict) -> list[tuple[str, list[Recipient]]]:
    """Return the kinds of DSN that may be wanted, each with its recipients."""
    if not (message.sender and (verdict.failed or verdict.delayed or verdict.relayed)):
        return []
    kinds = (("failure", verdict.failed), ("delay", verdict.delayed), ("success", verdict.relayed))
    return [(kind, about) for kind, about in kinds if any(_may_want(kind, recipient) for recipient in about)]


def _may_want(kind: str, recipient: Recipient) -> bool:
    """Cheap check, so that mail without DSN requests never reads the original or builds a DSN."""
    if kind == "failure":
        return recipient.notify is None or "FAILURE" in recipient.notify
    return recipient.notify is not None and kind.upper() in recipient.notify
