"""The writer thread: commits all waiting operations in one transaction and notifies the event loop once.

On an idle queue, an operation that a client waits for is committed at once. Under load the next batch gathers during
the fsync of the previous one (group commit), and a few milliseconds more if commits come too close together (`pace`).
What an operation means is decided by `apply` and the operations themselves.
"""

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, SimpleQueue

from relay_queue import reserve
from relay_queue.bodies import Bodies
from relay_queue.protocol import QueueDamagedError, QueueError, QueueFailedError, QueueFullError
from relay_queue.sqlite import unrecorded
from relay_queue.sqlite.apply import MOST_ROWS, Changes, unplain
from relay_queue.sqlite.checkpoint import Checkpoint
from relay_queue.sqlite.connect import FILE_NAME, TurnLock
from relay_queue.sqlite.faults import Fault, as_queue_error, fault_of, for_want_of_room
from relay_queue.sqlite.late import Late
from relay_queue.sqlite.operations import CallOperation, MarkOperation, Operation, PutOperation, awaited, body_files
from relay_queue.sqlite.outcomes import Outcome, done, tell
from relay_queue.sqlite.pace import Pace
from relay_queue.sqlite.presence import Presence
from relay_queue.sqlite.rows import mark_row, put_rows
from relay_queue.sqlite.sql import queries

_log = logging.getLogger(__name__)
_SQL = queries("server")
_BATCH_OPERATIONS = 256
_BATCH_OCTETS = 8 << 20
_RETRY_SECONDS = 0.25
"""Seconds before marks that failed for lack of space are retried; a new operation ends the pause."""


class Writer:
    """One writing connection, on its own thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], turn: TurnLock, bodies: Bodies) -> None:
        self._turn = turn
        self._bodies = bodies
        self._inbox: SimpleQueue[Operation | None] = SimpleQueue()
        self._kept: list[Operation] = []
        """Marks that failed for lack of space, to be retried."""
        self._next: list[Operation] = []
        """Operations taken from the inbox that cannot join the current commit; they begin the next batch."""
        self._batch: list[Operation] = []
        """The current batch. `_end` resolves its futures, so that no caller waits forever, whatever happens."""
        self._unlink: list[str] = []
        """Body files to remove after the commit."""
        self._closing = False
        self._pace = Pace()
        self._late = Late(turn, self._inbox, bodies)
        self.failure: str | None = None
        self.damage: str | None = None
        """Description of damage in the file, found by any thread; None if there is none."""
        self.commits = 0
        """Number of committed transactions, for tests."""
        self._connection = connect()
        self._changes = Changes(self._connection)
        self._connection.execute(_SQL["keys_table"])
        self._connection.execute("PRAGMA user_version").fetchone()  # a read, which opens the log
        self._presence = Presence(bodies.folder.parent / FILE_NAME)
        self._checkpoint = Checkpoint(self._connection, turn)
        self._thread = threading.Thread(target=self._run, name="queue-writer", daemon=True)
        self._thread.start()

    def submit(self, operation: Operation) -> None:
        """Submit an operation; its future resolves on its event loop after the commit."""
        self._inbox.put(operation)
        if not isinstance(operation, MarkOperation):
            self._pace.came()

    def refuse_late(self) -> None:
        """Refuse operations that have waited too long for the write lock (see `late`). Runs on the event loop."""
        self._late.refuse(self._batch)

    def look(self) -> None:
        """Record a failure if the files were deleted or moved while nothing was written. Do not call after `close`."""
        if self.failure is None and (reason := self._presence.moved_lately()) is not None:
            self._fail(reason)

    def close(self) -> None:
        """Commit all submitted operations and stop; blocks until done."""
        self._inbox.put(None)
        self._pace.end()
        self._thread.join()
        self._presence.close()

    def _run(self) -> None:
        try:
            while self._round():
                pass
        except Exception as error:  # noqa: BLE001 -- last resort: no caller may wait for a dead thread
            _log.exception("the queue's writer has failed")
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._end()

    def _round(self) -> bool:
        """Commit one batch. Returns False if the thread must end.

        The order matters: files are fsynced before the write lock is taken, so that other processes do not wait for
        that, and futures are resolved only after the check that the database file is still in place.
        """
        self._batch = self._gather()
        if self._batch:
            in_time = self._pace.wait(awaited(self._batch), len(self._batch))
            ready = self._durable_files(self._batch)
            with self._turn:
                ready, refused = self._late.part(ready)
                self._unlink += body_files(refused)
                # Operations submitted while other processes held the lock join this commit; otherwise they would wait
                # for the lock a second time.
                ready += self._latecomers()
                self._pace.learn(awaited(self._batch), in_time=in_time)
                outcomes = self._commit(ready)
            if (reason := self._presence.lost()) is not None:
                # The commit went to a deleted file, so it must not be reported as stored.
                self._fail(reason)
                outcomes = self._refused(ready, QueueFailedError(reason))
            tell(outcomes)
            self._batch = []
            self._remove_files()
            self._shorten_log()
        return self.failure is None and not (self._closing and self._inbox.empty() and not self._next)

    def _gather(self) -> list[Operation]:
        batch = self._kept + self._next
        wait = not self._next
        self._kept, self._next = [], []
        octets = 0
        while len(batch) < _BATCH_OPERATIONS and octets < _BATCH_OCTETS:
            try:
                operation = self._inbox.get(block=wait and not self._closing, timeout=_RETRY_SECONDS if batch else None)
            except Empty:
                break
            wait = False
            if operation is None:
                self._closing = True
                break
            batch.append(operation)
            if isinstance(operation, PutOperation):
                octets += len(operation.put.body.head)
        return batch

    def _latecomers(self) -> list[Operation]:
        """Operations that have arrived since the batch was gathered.

        A put with a large body ends the search and begins the next batch: its file must be fsynced first, which must
        not happen while this process holds the write lock.
        """
        late: list[Operation] = []
        while len(self._batch) < _BATCH_OPERATIONS:
            try:
                operation = self._inbox.get_nowait()
            except Empty:
                break
            if operation is None:
                self._closing = True
                break
            if isinstance(operation, PutOperation) and operation.file is not None:
                self._next.append(operation)
                break
            late.append(operation)
            self._batch.append(operation)
        return late

    def _durable_files(self, batch: Sequence[Operation]) -> list[Operation]:
        """Make the files of large bodies durable before their rows. If that fails, only this put is refused."""
        ready: list[Operation] = []
        for operation in batch:
            if isinstance(operation, PutOperation) and operation.file is not None:
                file, operation.file = operation.file, None
                operation.file_crc = file.crc
                try:
                    self._bodies.keep(file)
                except OSError as error:
                    self._bodies.discard(file)
                    self._note_fatal(error)
                    tell([(operation.future, None, as_queue_error(error, "storing a large body"))])
                    continue
            ready.append(operation)
        return ready

    def _commit(self, batch: Sequence[Operation]) -> list[Outcome]:
        if self.failure is not None:
            return self._refused(batch, QueueFailedError(self.failure))
        try:
            self._together(batch)
        except Exception as error:  # noqa: BLE001 -- fault_of classifies every exception
            return self._after_fault(batch, error)
        return [done(operation) for operation in batch]

    def _after_fault(self, batch: Sequence[Operation], error: Exception) -> list[Outcome]:
        fault = fault_of(error)
        if fault is Fault.FATAL and for_want_of_room(error, self._bodies.folder.parent):
            fault = Fault.ROOM
        match fault:
            case Fault.FATAL:
                self._note_fatal(error)
                return self._refused(batch, QueueFailedError(str(self.failure)))
            case Fault.DAMAGED:
                return self._apart(batch, error)
            case Fault.ROOM | Fault.BUSY:
                return self._without_puts(batch, as_queue_error(error, "writing to the queue", fault))
            case Fault.OPERATION if len(batch) == 1 and not unplain(error):
                return self._refused(batch, as_queue_error(error, "writing to the queue"))
            case _:
                return self._one_by_one(batch)

    def _without_puts(self, batch: Sequence[Operation], error: QueueError) -> list[Outcome]:
        """No space left: refuse all but marks. Marks, which free space, are tried alone and kept until they succeed."""
        marks: list[Operation] = [operation for operation in batch if isinstance(operation, MarkOperation)]
        others = [operation for operation in batch if not isinstance(operation, MarkOperation)]
        outcomes = self._refused(others, error)
        if not marks:
            return outcomes
        if others:
            return outcomes + self._commit(marks)
        if not self._closing:
            self._kept = marks
            return outcomes
        # The last chance: a delivery that is not recorded now is repeated after the next start.
        if isinstance(error, QueueFullError) and reserve.release(self._bodies.folder.parent):
            return outcomes + self._commit(marks)
        return outcomes + self._refused(marks, error)

    def _one_by_one(self, batch: Sequence[Operation]) -> list[Outcome]:
        """Run each operation in its own savepoint, so that it fails alone.

        Used if an operation failed or a mark is not plain. It costs several statements per operation, so `_together`
        is always tried first.
        """
        outcomes: list[Outcome] = []

        def each() -> None:
            outcomes.clear()
            for operation in batch:
                self._connection.execute("SAVEPOINT operation")
                gone = len(self._changes.gone)
                try:
                    self._alone(operation)
                except Exception as error:
                    if fault_of(error) is not Fault.OPERATION:
                        raise
                    self._connection.execute("ROLLBACK TO operation")
                    del self._changes.gone[gone:]
                    outcomes.extend(self._refused([operation], as_queue_error(error, "writing to the queue")))
                else:
                    outcomes.append(done(operation))
                self._connection.execute("RELEASE operation")

        try:
            self._transaction(each)
        except Exception as error:  # noqa: BLE001 -- as in _commit
            if fault_of(error) is Fault.OPERATION:
                return self._refused(batch, as_queue_error(error, "writing to the queue"))
            return self._after_fault(batch, error)
        return outcomes

    def _apart(self, batch: Sequence[Operation], error: Exception) -> list[Outcome]:
        """Handle a damaged page: claims and other calls fail alone, but if puts and marks fail, the writer stops.

        Each call runs in its own transaction, because SQLite refuses all further changes in a transaction after such
        an error.
        """
        calls = [operation for operation in batch if isinstance(operation, CallOperation)]
        others = [operation for operation in batch if not isinstance(operation, CallOperation)]
        self.note_damage(error)
        if not calls:
            self._note_fatal(error)
            self._keep_deliveries(others)
            return self._refused(batch, QueueDamagedError(str(self.failure)))
        if len(batch) == 1:
            return self._refused(batch, QueueDamagedError(str(self.damage)))
        outcomes = self._commit(others) if others else []
        for call in calls:
            outcomes += self._commit([call])
        return outcomes

    def _keep_deliveries(self, batch: Sequence[Operation]) -> None:
        marks = [mark for operation in batch if isinstance(operation, MarkOperation) for mark in operation.marks]
        unrecorded.keep_or_tell(self._bodies.folder.parent, marks)

    def note_damage(self, error: Exception) -> None:
        """Record that the file is damaged. Only the first description is kept."""
        if self.damage is None:
            self.damage = f"{type(error).__name__}: {error}"
            _log.critical("the queue's file is damaged; new mail is refused: %s", self.damage)

    def _together(self, batch: Sequence[Operation]) -> None:
        """Run operations in one transaction: marks first, because they free space, then puts, then calls.

        Nearly always the whole batch is one statement, which needs no BEGIN and COMMIT. All marks are assumed to be
        plain; if one is not, nothing is changed (see `unplain`).
        """
        marking = [operation for operation in batch if isinstance(operation, MarkOperation)]
        putting = [operation for operation in batch if isinstance(operation, PutOperation)]
        calls = [operation for operation in batch if isinstance(operation, CallOperation)]
        rows = [mark_row(mark) for operation in marking for mark in operation.marks]
        marks = len(rows)
        for operation in marking:
            for notice in operation.notices:
                rows += put_rows(notice, None)
        for put in putting:
            rows += put_rows(put.put, put.file_crc)

        def work() -> None:
            self._changes.store(rows)
            for call in calls:
                call.result = call.run(self._changes)

        self._transaction(work, one_statement=not calls and len(rows) <= MOST_ROWS)
        self._checkpoint.count(sum(len(put.put.body.head) for put in putting), len(rows) - marks, marks)

    def _alone(self, operation: Operation) -> None:
        if isinstance(operation, PutOperation):
            self._changes.put(operation.put, operation.file_crc)
        elif isinstance(operation, CallOperation):
            operation.result = operation.run(self._changes)
        else:
            operation.refused = self._changes.settle(operation.marks)
            if not operation.marks or len(operation.refused) < len(operation.marks):
                for notice in operation.notices:
                    self._changes.put(notice)

    def _transaction(self, work: Callable[[], None], *, one_statement: bool = False) -> None:
        connection = self._connection
        self._changes.gone.clear()
        with self._turn:
            try:
                if not one_statement:
                    connection.execute("BEGIN IMMEDIATE")
                work()
                if not one_statement:
                    connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # report the first error
                    connection.rollback()
                raise
        self.commits += 1
        self._unlink += self._changes.gone

    def _refused(self, batch: Iterable[Operation], error: QueueError) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for operation in batch:
            if not isinstance(error, QueueFailedError):  # else the row may be on disk and need its file
                self._unlink += body_files([operation])
            outcomes.append((operation.future, None, error))
        return outcomes

    def _note_fatal(self, error: Exception) -> None:
        fault = fault_of(error)
        if fault is Fault.DAMAGED:
            self.note_damage(error)
        if fault in {Fault.FATAL, Fault.DAMAGED}:
            self._fail(f"{type(error).__name__}: {error}")

    def _fail(self, reason: str) -> None:
        if self.failure is None:
            self.failure = reason
            _log.critical("the queue's writer stops for good: %s", reason)

    def _remove_files(self) -> None:
        files, self._unlink = self._unlink, []
        for name in files:
            try:
                self._bodies.remove(name)
            except (OSError, QueueError) as error:  # the next recovery removes it
                _log.warning("a body file stays behind: %s", error)

    def _shorten_log(self) -> None:
        try:
            self._checkpoint.run_if_long()
        except sqlite3.Error as error:
            self._note_fatal(error)
            if self.failure is None:  # no space to copy to: the log stays; a serious fault shows at the next commit
                _log.warning("the queue's log cannot be shortened now: %s", error)

    def _end(self) -> None:
        rest = [*self._batch, *self._kept, *self._next]
        while not self._inbox.empty():
            operation = self._inbox.get_nowait()
            if operation is not None:
                rest.append(operation)
        if self.failure is not None and self.damage is not None:
            self._keep_deliveries(rest)
        error = QueueError("the queue is closed") if self.failure is None else QueueFailedError(self.failure)
        tell(self._refused(rest, error))
        self._connection.close()
        self._turn.close()
