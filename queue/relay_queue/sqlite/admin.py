"""`protocol.Admin` on SQLite, the shell's interface: synchronous, on its own connection, with or without a server.

It reads in pages and writes in small transactions, so that nobody waits for it long. Must not need the server.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay_queue.bodies import Bodies
from relay_queue.decide import check_put
from relay_queue.matching import lane_matches
from relay_queue.model import (
    Body,
    Destination,
    Ended,
    Entry,
    Integrity,
    Put,
    Selection,
    Steered,
    Summary,
    Suspension,
    SuspensionKind,
)
from relay_queue.protocol import Action, BodyDamagedError
from relay_queue.sqlite.apply import Changes
from relay_queue.sqlite.connect import TurnLock, connect, folder_lock, prepare
from relay_queue.sqlite.faults import DAMAGE, as_queue_error, damaging
from relay_queue.sqlite.filters import filtered, parameters
from relay_queue.sqlite.pages import entries_of, pages
from relay_queue.sqlite.room import Room, with_room
from relay_queue.sqlite.rows import body_of, ended_of, suspension_of
from relay_queue.sqlite.sql import queries
from relay_queue.sqlite.steer import Steering
from relay_queue.states import State

_PATIENCE = 5.0
"""Seconds that a command waits for the write lock; a server releases it within milliseconds unless it hangs."""
COMPARED_MOST = 256 << 20
"""Bytes: larger databases are only read page by page, without comparing their indexes with the tables."""
_SPILL = 1 << 18
"""Bytes: a larger body is stored in a file, as for mail that the server receives."""


class SqliteAdmin:
    """`protocol.Admin` for the queue of a data folder. Raises `QueueError`."""

    def __init__(self, data_dir: Path) -> None:
        self._path = with_room(data_dir, lambda: prepare(data_dir))
        self._data_dir = data_dir
        self._turn = TurnLock(data_dir, _PATIENCE)
        self._bodies = Bodies(data_dir)
        with self._mapped(f"opening {self._path}"):
            self._connection = with_room(data_dir, self._connected)
            self._changes = Changes(self._connection)
        self._room = Room(data_dir, self._connection, self._turn)

    def _connected(self) -> sqlite3.Connection:
        connection = connect(self._path)
        # A row with damaged text must be listed, so that it can be dropped; so decoding never raises here.
        connection.text_factory = lambda octets: octets.decode("utf-8", "replace")
        connection.create_function("lane_matches", 2, _lane_matches, deterministic=True)
        try:
            connection.execute(queries("server")["keys_table"])
            connection.execute(
                queries("server")["suspensions"]
            ).fetchall()  # makes SQLite create its log and shared memory files
        except BaseException:
            connection.close()
            raise
        return connection

    def select(self, selection: Selection, limit: int | None = 100) -> Iterator[Entry]:
        """See `Admin.select`."""
        for page in self._pages(selection):
            for entry in entries_of(page):
                if limit is not None:
                    if limit <= 0:
                        return
                    limit -= 1
                yield entry

    def summary(self, selection: Selection) -> list[Summary]:
        """See `Admin.summary`."""
        given = parameters(selection)
        query = filtered("summary", given) if given else queries("admin")["summary_all"]
        domains: dict[str, Summary] = {}
        with self._mapped("reading the queue"):
            for domain, state, count, next_due, oldest in self._connection.execute(query, given):
                row = domains.setdefault(domain, Summary(domain=domain))
                setattr(row, State(state).word, count)
                row.next_due = next_due if row.next_due is None else row.next_due
                row.oldest = min((known for known in (row.oldest, oldest) if known is not None), default=None)
            return sorted(
                domains.values(), key=lambda row: (-(row.queued + row.active + row.held + row.quarantined), row.domain)
            )

    def due_times(self, destination: Destination, now: float, limit: int, *, tried: bool) -> list[float]:
        """See `Admin.due_times`."""
        given = {
            "domain": destination.domain,
            "stream": destination.stream,
            "now": now,
            "limit": limit,
            "tried": int(tried),
        }
        return [row[0] for row in self._rows("due_times", given)]

    def show(self, message_id: str) -> Entry | None:
        """See `Admin.show`."""
        return next(self.select(Selection(ids=(message_id,)), limit=1), None) if "/" not in message_id else None

    def ended(self, message_id: str | None = None, address: str | None = None, limit: int = 100) -> list[Ended]:
        """See `Admin.ended`."""
        given = {"message_id": message_id, "address": None if address is None else address.lower(), "limit": limit}
        name = "ended_all" if address is None else "ended_of_address"
        rows = self._rows("ended_of_message" if message_id is not None else name, given)
        with self._mapped("reading the history"):
            return [ended_of(row) for row in rows]

    def body(self, message_id: str) -> Iterator[bytes]:
        """See `Admin.body`."""
        if not self._rows("is_live", (message_id,))[0][0]:
            raise KeyError(message_id)
        with self._mapped("reading a body"):
            rows = self._connection.execute(queries("server")["head"], (message_id,)).fetchall()
        if not rows:
            raise BodyDamagedError(f"{message_id} has no body")
        try:
            body = body_of(rows[0])
        except ValueError as error:
            raise BodyDamagedError(f"the body of {message_id} is not what was stored: {error}") from error
        return self._bodies.blocks(body)

    def steer(
        self,
        action: Action,
        selection: Selection,
        *,
        now: float,
        reason: str | None = None,
        notice: Callable[[Entry], Put | None] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> Steered:
        """See `Admin.steer`."""
        steering = Steering(
            self._changes, self._turn, self._room, self._bodies, action, now=now, reason=reason, notice=notice
        )
        with self._mapped("steering the queue"):
            return steering.run(selection, dry_run=dry_run, limit=limit)

    def put(self, put: Put) -> None:
        """See `Admin.put`. A large body is stored in a file."""
        check_put(put)
        assert put.body.file is None, "the shell hands over whole bodies"
        with self._mapped("storing a message"), folder_lock(self._data_dir, shared=True):
            body, crc = self._spilled(put.body)
            try:
                with self._turn, self._connection:
                    self._connection.execute("BEGIN IMMEDIATE")
                    self._changes.put(Put(put.entry, body), crc)
            except BaseException:
                if body.file is not None:
                    self._bodies.remove(body.file)
                raise

    def _spilled(self, body: Body) -> tuple[Body, int | None]:
        if len(body.head) <= _SPILL:
            return body, None
        end = body.head.find(b"\r\n\r\n", 0, _SPILL)
        if end < 0:
            return body, None
        file = self._bodies.new()
        try:
            file.write(memoryview(body.head)[end + 4 :])
            self._bodies.keep(file)
        except BaseException:
            self._bodies.discard(file)
            raise
        return Body(head=body.head[: end + 4], file=file.path.name, file_size=file.size), file.crc

    def suspend(self, kind: SuspensionKind, value: str, reason: str, until: float | None, now: float) -> Suspension:
        """See `Admin.suspend`."""
        row = self._change("suspend", (kind, value, reason, now, until)).lastrowid
        assert row is not None, "a row was inserted"
        return Suspension(id=row, kind=kind, value=value, reason=reason, created_at=now, until=until)

    def resume(self, suspension_ids: Sequence[int]) -> int:
        """See `Admin.resume`."""
        listed = f"[{','.join(str(int(number)) for number in suspension_ids)}]"
        return self._change("resume", (listed,)).rowcount

    def _change(self, query: str, given: Any) -> sqlite3.Cursor:
        def change() -> sqlite3.Cursor:
            with self._turn:
                return self._connection.execute(queries("admin")[query], given)

        with self._mapped("changing the queue"):
            return self._room.run(change)

    def suspensions(self) -> Sequence[Suspension]:
        """See `Admin.suspensions`."""
        with self._mapped("reading the queue"):
            rows = self._connection.execute(queries("server")["suspensions"]).fetchall()
        return [suspension_of(row) for row in rows]

    def integrity(self, seconds: float) -> Integrity:
        """See `Admin.integrity`. Its only effect on a server is that the log cannot be shortened meanwhile."""
        faults: list[str] = []
        timer = threading.Timer(seconds, self._connection.interrupt)
        timer.start()
        try:
            large = self._path.stat().st_size > COMPARED_MOST
            for (text,) in self._connection.execute(queries("admin")["pages" if large else "integrity"]):
                faults += [line for line in str(text).splitlines() if line != "ok" and not line.startswith("***")]
        except DAMAGE as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
                return Integrity(tuple(faults), whole=False)
            if not damaging(error):
                raise as_queue_error(error, "examining the queue") from error
            faults.append(f"{type(error).__name__}: {error}")
        finally:
            timer.cancel()
            timer.join()
        return Integrity(tuple(faults), whole=True)

    def close(self) -> None:
        """See `Admin.close`."""
        self._connection.close()
        self._turn.close()

    def _pages(self, selection: Selection) -> Iterator[list[Any]]:
        found = pages(self._connection, selection)
        while True:
            # Map only errors from reading, not those that the caller raises while it handles a page.
            with self._mapped("reading the queue"):
                page = next(found, None)
            if page is None:
                return
            yield page

    def _rows(self, query: str, given: Any) -> list[Any]:
        with self._mapped("reading the queue"):
            return self._connection.execute(queries("admin")[query], given).fetchall()

    @contextmanager
    def _mapped(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise as_queue_error(error, doing) from error


def _lane_matches(pattern: str, lane: bytes | None) -> bool:
    """`lane_matches` for SQL: damaged text in one row must not make the whole listing fail."""
    return lane is not None and lane_matches(pattern, lane.decode("utf-8", "replace"))
