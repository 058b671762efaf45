"""`protocol.Queue` on SQLite: the server's face, which hands all work to a writer thread and a reader thread.

Nothing here blocks the event loop but `new_file`, `open_file` and `discard_file`, which touch one small inode each.
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
from relay_queue.model import Body, Entry, Mark, Put, Suspension
from relay_queue.protocol import Action, BodyDamagedError, QueueDamagedError, QueueError, QueueFailedError, Wish
from relay_queue.sqlite import around, unrecorded
from relay_queue.sqlite.apply import Changes
from relay_queue.sqlite.claim import claim, give_back, owners, quarantine_domains
from relay_queue.sqlite.connect import TurnLock, connect, folder_lock, prepare
from relay_queue.sqlite.faults import FOREIGN, Fault, as_queue_error, fault_of, undecodable
from relay_queue.sqlite.late import LOOK_EVERY
from relay_queue.sqlite.operations import CallOperation, MarkOperation, Operation, PutOperation
from relay_queue.sqlite.rows import Row, body_of, suspension_of
from relay_queue.sqlite.sql import queries
from relay_queue.sqlite.writer import Writer

_T = TypeVar("_T")
_SQL = queries("server")
_WISHES = frozenset(action.value for action in Action)
"""Any other is damage, and no wish."""
_SPARE_PAGES = 16384
"""Free pages (64 MiB of them) that the next messages will need; only what is beyond goes back to the file system."""

_HASTEN_PAGE = 500
"""Domains that one step of `hasten` goes through."""
_HASTEN_STEP = 200
"""Recipients of one step: a few milliseconds in the writer."""
_HASTEN_PAUSE_MOST = 0.1
"""Seconds between two steps, at most: after each as long as it took."""


class SqliteQueue:
    """One worker's way to the queue of a data folder. Made on, and used from, one event loop."""

    def __init__(self, data_dir: Path, *, slot: int, disk: Disk | None = None) -> None:
        path = prepare(data_dir)
        self.slot = slot
        self._data_dir = data_dir
        self._bodies = Bodies(data_dir, disk)
        self._arriving: dict[str, SpoolFile] = {}
        self._closed = False
        self._looking: asyncio.TimerHandle | None = None
        """The next look at what waits for too long; from the first change on."""
        self._read_connection = connect(path, read_only=True)
        self._readers = ThreadPoolExecutor(max_workers=1, thread_name_prefix="queue-reader")
        self.writer = Writer(functools.partial(connect, path), TurnLock(data_dir), self._bodies)

    def put(self, put: Put) -> asyncio.Future[None]:
        """See `Queue.put`."""
        check_put(put)
        future = self._future()
        if self.writer.damage is not None:
            # It might be stored where nothing finds it again.
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
        """See `Queue.mark`. Notices have no body files; a DSN is small."""
        for mark in marks:
            check_mark(mark)
        if self.writer.failure is not None and self.writer.damage is not None:
            # What was on the wire when the damage was met. Rare, and over at once: not worth a thread.
            unrecorded.keep_or_tell(self._data_dir, marks)
        for notice in notices:
            check_put(notice)
            assert notice.body.file is None, "a DSN's body is in memory"
        future = self._future()
        self.writer.submit(MarkOperation(marks, notices, future))
        return future

    async def claim(self, owner: int, domain: str, limit: int, now: float) -> list[Entry]:
        """See `Queue.claim`."""
        try:
            entries: list[Entry] = await self._write(
                lambda changes: claim(changes.connection, owner, domain, limit, now)
            )
        except QueueDamagedError:
            return await self._claim_around(owner, domain, limit, now)
        return entries

    async def _claim_around(self, owner: int, domain: str, limit: int, now: float) -> list[Entry]:
        """Claim what damage has left. Takes its time: it is done only in a queue that waits to be salvaged."""
        rows = await self._run_reading(lambda: around.readable(self._read_connection, domain, limit, now))
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
        after: str,
        limit: int,
    ) -> list[tuple[str, float]]:
        """See `Queue.due`."""
        try:
            rows = await self._read("due", {"after": after, "limit": limit})
        except QueueDamagedError:
            rows = await self._run_reading(lambda: around.due(self._read_connection, after, limit))
        except QueueError as error:
            if not undecodable(error.__cause__):
                raise
            # One damaged domain must not keep all that wait behind it from being delivered.
            await self._write(lambda changes: quarantine_domains(changes.connection, now))
            rows = await self._read("due", {"after": after, "limit": limit})
        return [(domain, min((due for due in dues if due is not None), default=now)) for domain, *dues in rows]

    async def hasten(self, untried: float, tried: float, due_at: float) -> int:
        """See `Queue.hasten`. In steps, each its own transaction, with a pause after it."""
        assert due_at <= min(untried, tried), "what was hastened would be found again"
        count, after = 0, ""
        while page := await self.due(due_at, after, _HASTEN_PAGE):
            after = page[-1][0]
            domains = json.dumps([domain for domain, _ in page])
            for was_tried, latest in enumerate((untried, tried)):
                given = {
                    "domains": domains,
                    "tried": was_tried,
                    "latest": latest,
                    "due_at": due_at,
                    "limit": _HASTEN_STEP,
                }
                while step := await self._hasten_some(given):
                    count += step
        return count

    async def _hasten_some(self, given: dict[str, object]) -> int:
        began = time.monotonic()
        count: int = await self._write(lambda changes: changes.connection.execute(_SQL["hasten"], given).rowcount)
        await asyncio.sleep(min(_HASTEN_PAUSE_MOST, time.monotonic() - began))
        return count

    async def recover(self, owner: int | None) -> int:
        """See `Queue.recover`. In steps, each its own transaction."""
        count = 0
        for each in [owner] if owner is not None else await self._write(lambda changes: owners(changes.connection)):
            while step := await self._give_back(each):
                count += step
        if owner is None:
            await self._run_reading(self._sweep)
        return count

    async def _give_back(self, owner: int) -> int:
        count: int = await self._write(lambda changes: give_back(changes, owner))
        return count

    def _sweep(self) -> int:
        with folder_lock(self._data_dir):
            return self._bodies.sweep({row[0] for row in self._read_connection.execute(_SQL["files"])})

    async def withdrawn(self, owner: int) -> list[Wish]:
        """See `Queue.withdrawn`."""
        rows = await self._read("withdrawn", (owner,))
        return [Wish(message_id, n, Action(wish), reason) for message_id, n, wish, reason in rows if wish in _WISHES]

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
        """See `Queue.prune`. Gives a little room back to the file system as well."""

        def run(changes: Changes) -> int:
            connection = changes.connection
            gone = connection.execute(_SQL["prune"], {"limit": limit, "before": ended_before}).rowcount
            if connection.execute(_SQL["free_pages"]).fetchone()[0] > _SPARE_PAGES:
                connection.execute(_SQL["vacuum"]).fetchall()
            return gone

        count: int = await self._write(run)
        return count

    def failed(self) -> str | None:
        """See `Queue.failed`. Looks after the files too: they may be deleted while nothing is written."""
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
        await asyncio.sleep(0)  # the writer's last results were handed to the loop; let them arrive

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


def _take_one(row: Row, owner: int, changes: Changes) -> list[Entry]:
    return around.take(changes.connection, [row], owner)
