"""`protocol.Queue` on SQLite: the server's interface, which passes all work to a writer thread and a reader thread.

Nothing here blocks the event loop except `new_file`, `open_file` and `discard_file`, which each access one inode.
"""

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from relay_queue.bodies import Bodies, SpoolFile
from relay_queue.decide import check_mark, check_put
from relay_queue.durable import Disk
from relay_queue.model import Body, Destination, Entry, Mark, Owner, Put, Suspension
from relay_queue.protocol import (
    Action,
    BodyDamagedError,
    PendingAction,
    QueueDamagedError,
    QueueError,
    QueueFailedError,
)
from relay_queue.sqlite import around, unrecorded
from relay_queue.sqlite.apply import Changes
from relay_queue.sqlite.claim import (
    claim,
    give_back,
    lease,
    leases_of_node,
    leases_of_worker,
    quarantine_destinations,
)
from relay_queue.sqlite.connect import TurnLock, connect, folder_lock, prepare
from relay_queue.sqlite.faults import FOREIGN, Fault, as_queue_error, fault_of, undecodable
from relay_queue.sqlite.late import LOOK_EVERY
from relay_queue.sqlite.operations import CallOperation, MarkOperation, Operation, PutOperation
from relay_queue.sqlite.rows import Row, body_of, suspension_of
from relay_queue.sqlite.sql import queries
from relay_queue.sqlite.writer import Writer

_T = TypeVar("_T")
_SQL = queries("server")
_ACTIONS = frozenset(action.value for action in Action)
"""Any other value means damage."""
_SPARE_PAGES = 16384
"""Free pages (64 MiB) kept for the next messages; only pages beyond these are returned to the file system."""

_FORWARD_PAGE = 500
"""Destinations that `bring_forward` reads at a time."""
_FORWARD_STEP = 200
"""Recipients that one step of `bring_forward` changes: a few milliseconds in the writer."""
_FORWARD_PAUSE_MOST = 0.1
"""Longest pause after a step, in seconds; a pause is as long as the step took, so others get half of the time."""


class SqliteQueue:
    """One worker's access to the queue of a data folder. Must be created and used on one event loop."""

    def __init__(self, data_dir: Path, *, disk: Disk | None = None) -> None:
        path = prepare(data_dir)
        self._data_dir = data_dir
        self._bodies = Bodies(data_dir, disk)
        self._arriving: dict[str, SpoolFile] = {}
        self._closed = False
        self._looking: asyncio.TimerHandle | None = None
        """Timer of the next check for overdue operations; started by the first write."""
        self._read_connection = connect(path, read_only=True)
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="queue-reader")
        self.writer = Writer(functools.partial(connect, path), TurnLock(data_dir), self._bodies)

    def put(self, put: Put) -> asyncio.Future[None]:
        """See `Queue.put`."""
        check_put(put)
        future = self._future()
        if self.writer.damage is not None:
            # It might be stored where it cannot be found again.
            future.set_exception(QueueDamagedError(self.writer.damage))
            return future
        file = None
        if put.body.file is not None:
            file = self._arriving.pop(put.body.file, None)
            if file is None or file.size != put.body.file_size:
                future.set_exception(
                    QueueError(f"{put.body.file} is no file of {put.body.file_size} octets that just arrived")
                )
                return future
        self.writer.submit(PutOperation(put, future, file))
        return future

    def mark(self, marks: Sequence[Mark], notices: Sequence[Put] = ()) -> asyncio.Future[list[Mark]]:
        """See `Queue.mark`. Notices have no body files, because DSNs are small."""
        for mark in marks:
            check_mark(mark)
        if self.writer.failure is not None and self.writer.damage is not None:
            # Deliveries that were in progress when the damage was found. Rare and quick, so no thread is used.
            unrecorded.keep_or_tell(self._data_dir, marks)
        for notice in notices:
            check_put(notice)
            assert notice.body.file is None, "a DSN's body is in memory"
        future = self._future()
        self.writer.submit(MarkOperation(marks, notices, future))
        return future

    async def lease(self, node: str, worker: int) -> Owner:
        """See `Queue.lease`."""
        owner: Owner = await self._write(lambda changes: lease(changes.connection, node, worker, time.time()))
        return owner

    async def claim(self, owner: Owner, destination: Destination, limit: int, now: float) -> list[Entry]:
        """See `Queue.claim`."""
        try:
            entries: list[Entry] = await self._write(
                lambda changes: claim(changes.connection, owner, destination, limit, now)
            )
        except QueueDamagedError:
            return await self._claim_around(owner, destination, limit, now)
        return entries

    async def _claim_around(self, owner: Owner, destination: Destination, limit: int, now: float) -> list[Entry]:
        """Claim the recipients that can still be read. Slow, but used only in a queue that waits to be salvaged."""
        rows = await self._run_reading(lambda: around.readable(self._read_connection, destination, limit, now))
        with contextlib.suppress(QueueDamagedError):
            entries: list[Entry] = await self._write(lambda changes: around.take(changes.connection, rows, owner))
            return entries
        taken: dict[str, Entry] = {}
        for row in rows:
            run = functools.partial(_take_one, row, owner)
            with contextlib.suppress(QueueDamagedError):
                for entry in await self._write(run):
                    taken.setdefault(entry.message.id, Entry(entry.message, [])).recipients.extend(entry.recipients)
        return list(taken.values())

    async def due(
        self,
        now: float,
        after: Destination | None,
        limit: int,
    ) -> list[tuple[Destination, float]]:
        """See `Queue.due`."""
        given: dict[str, object] = {
            "after_domain": "" if after is None else after.domain,
            "after_stream": "" if after is None else after.stream,
            "limit": limit,
        }
        try:
            rows = await self._read("due", given)
        except QueueDamagedError:
            rows = await self._run_reading(lambda: around.due(self._read_connection, given))
        except QueueError as error:
            if not undecodable(error.__cause__):
                raise
            # One damaged destination must not block the delivery of all destinations that sort after it.
            await self._write(lambda changes: quarantine_destinations(changes.connection, now))
            rows = await self._read("due", given)
        return [
            (Destination(domain, stream), min((due for due in dues if due is not None), default=now))
            for domain, stream, *dues in rows
        ]

    async def bring_forward(self, untried: float, tried: float, due_at: float) -> int:
        """See `Queue.bring_forward`. Each step is its own transaction, followed by a pause."""
        assert due_at <= min(untried, tried), "recipients that were brought forward would be found again"
        count, after = 0, None
        while page := await self.due(due_at, after, _FORWARD_PAGE):
            after = page[-1][0]
            destinations = json.dumps([(destination.domain, destination.stream) for destination, _ in page])
            for was_tried, latest in enumerate((untried, tried)):
                given = {
                    "destinations": destinations,
                    "tried": was_tried,
                    "latest": latest,
                    "due_at": due_at,
                    "limit": _FORWARD_STEP,
                }
                while step := await self._bring_some_forward(given):
                    count += step
        return count

    async def _bring_some_forward(self, given: dict[str, object]) -> int:
        began = time.monotonic()
        count: int = await self._write(
            lambda changes: changes.connection.execute(_SQL["bring_forward"], given).rowcount
        )
        await asyncio.sleep(min(_FORWARD_PAUSE_MOST, time.monotonic() - began))
        return count

    async def recover(self, owner: Owner) -> int:
        """See `Queue.recover`. Each step is its own transaction."""
        return await self._give_back(await self._write(lambda changes: leases_of_worker(changes.connection, owner)))

    async def recover_node(self, node: str) -> int:
        """See `Queue.recover_node`."""
        count = await self._give_back(await self._write(lambda changes: leases_of_node(changes.connection, node)))
        await self._run_reading(self._clean_up)
        return count

    async def _give_back(self, leases: list[int]) -> int:
        count = 0
        for each in leases:
            while step := await self._give_some_back(each):
                count += step
        return count

    async def _give_some_back(self, lease: int) -> int:
        count: int = await self._write(lambda changes: give_back(changes, lease))
        return count

    def _clean_up(self) -> int:
        with folder_lock(self._data_dir):
            return self._bodies.sweep({row[0] for row in self._read_connection.execute(_SQL["files"])})

    async def pending_actions(self, owner: Owner) -> list[PendingAction]:
        """See `Queue.pending_actions`."""
        rows = await self._read("pending_actions", (owner.lease,))
        return [
            PendingAction(message_id, n, Action(action), reason)
            for message_id, n, action, reason in rows
            if action in _ACTIONS
        ]

    async def head(self, message_id: str) -> Body:
        """See `Queue.head`."""
        try:
            rows = await self._read("head", (message_id,))
        except QueueError as error:
            if undecodable(error.__cause__):
                raise BodyDamagedError(f"the body of {message_id} is not what was stored: {error}") from error
            raise
        if not rows:
            raise BodyDamagedError(f"{message_id} has no body")
        try:
            return body_of(rows[0])
        except ValueError as error:
            raise BodyDamagedError(f"the body of {message_id} is not what was stored: {error}") from error

    def open_file(self, body: Body) -> BinaryIO:
        """See `Queue.open_file`."""
        return self._bodies.open(body)

    def new_file(self) -> BinaryIO:
        """See `Queue.new_file`."""
        file = self._bodies.new()
        self._arriving[file.path.name] = file
        return file

    def discard_file(self, file: BinaryIO) -> None:
        """See `Queue.discard_file`."""
        self._arriving.pop(Path(file.name).name, None)
        self._bodies.discard(file)

    async def suspensions(self) -> list[Suspension]:
        """See `Queue.suspensions`."""
        return [suspension_of(row) for row in await self._read("suspensions", ())]

    async def prune(self, ended_before: float, limit: int = 1000) -> int:
        """See `Queue.prune`. Also returns some free pages to the file system."""

        def run(changes: Changes) -> int:
            connection = changes.connection
            gone = connection.execute(_SQL["prune"], {"limit": limit, "before": ended_before}).rowcount
            if connection.execute(_SQL["free_pages"]).fetchone()[0] > _SPARE_PAGES:
                connection.execute(_SQL["vacuum"]).fetchall()
            return gone

        count: int = await self._write(run)
        return count

    def failed(self) -> str | None:
        """See `Queue.failed`. Also checks the files, which may be deleted while nothing is written."""
        if not self._closed:
            self.writer.look()
        return self.writer.failure

    def damaged(self) -> str | None:
        """See `Queue.damaged`."""
        return self.writer.damage

    def note_damage(self, what: str) -> None:
        """See `Queue.note_damage`."""
        self.writer.damage = self.writer.damage or what

    async def aclose(self) -> None:
        """See `Queue.aclose`."""
        if self._closed:
            return
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._readers, self.writer.close)
        await loop.run_in_executor(self._readers, self._read_connection.close)
        self._readers.shutdown(wait=True)
        for file in self._arriving.values():
            self._bodies.discard(file)
        self._arriving.clear()
        await asyncio.sleep(0)  # let the loop deliver the writer's last results

    def _check_open(self) -> None:
        if self._closed:
            raise QueueError("the queue is closed")
        if self.writer.failure is not None:
            raise QueueFailedError(self.writer.failure)

    def _future(self) -> asyncio.Future[Any]:
        self._check_open()
        loop = asyncio.get_running_loop()
        if self._looking is None:
            self._looking = loop.call_later(LOOK_EVERY, self._look, loop)
        return loop.create_future()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.writer.refuse_late()
        self._looking = loop.call_later(LOOK_EVERY, self._look, loop)

    async def _write(self, run: Callable[[Changes], Any]) -> Any:
        future = self._future()
        operation: Operation = CallOperation(run, future)
        self.writer.submit(operation)
        return await future

    async def _read(self, query: str, parameters: Any) -> list[Any]:
        return await self._run_reading(lambda: self._read_connection.execute(_SQL[query], parameters).fetchall())

    async def _run_reading(self, run: Callable[[], _T]) -> _T:
        self._check_open()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, run)
        except FOREIGN as error:
            if fault_of(error) is Fault.DAMAGED:
                self.writer.note_damage(error)
            raise as_queue_error(error, "reading the queue") from error


def _take_one(row: Row, owner: Owner, changes: Changes) -> list[Entry]:
    return around.take(changes.connection, [row], owner)
