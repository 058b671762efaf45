"""An admin's action on selected recipients, in small transactions with pauses between them.

Unclaimed recipients are changed at once. For claimed recipients the action becomes pending, and the worker carries it
out.
"""

import functools
import time
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from relay_queue.bodies import Bodies
from relay_queue.decide import pending_after, steered
from relay_queue.model import Entry, Mark, Put, Recipient, Selection, Steered
from relay_queue.protocol import Action
from relay_queue.sqlite.apply import Changes, insert
from relay_queue.sqlite.connect import TurnLock
from relay_queue.sqlite.pages import PAGE, PENDING, entries_of, page_after, recipient
from relay_queue.sqlite.room import Room
from relay_queue.sqlite.rows import STATE, Row
from relay_queue.sqlite.sql import queries
from relay_queue.states import State

SHOWN = 1000
"""Maximum number of entries in a result."""
_LONGEST_PAUSE = 0.05


class Steering:
    """One run of an action."""

    def __init__(
        self,
        changes: Changes,
        turn: TurnLock,
        room: Room,
        bodies: Bodies,
        action: Action,
        *,
        now: float,
        reason: str | None,
        notice: Callable[[Entry], Put | None] | None,
    ) -> None:
        self._changes = changes
        self._connection = changes.connection
        self._turn = turn
        self._room = room
        self._bodies = bodies
        self._action = action
        self._now = now
        self._reason = reason
        self._notice = notice if action is Action.FAIL else None
        self._built: dict[str, Put | None] = {}
        """The DSNs of a page by message id: built once, however often the page is retried."""
        self._done = Steered()

    def run(self, selection: Selection, *, dry_run: bool, limit: int | None) -> Steered:
        """Apply the action to the selection page by page. Raises sqlite3.Error, OSError or `QueueError`."""
        key = ("", -1)
        while limit is None or self._done.recipients < limit:
            began = time.monotonic()
            room = None if limit is None else limit - self._done.recipients
            page = self._dry_page if dry_run else self._page
            self._built.clear()
            rows = self._room.run(functools.partial(page, selection, key, room))
            if len(rows) < PAGE:
                break
            key = (rows[-1][0], rows[-1][1])
            if not dry_run:
                # Without a pause, this process would always retake the write lock before the kernel wakes the waiters.
                time.sleep(min(_LONGEST_PAUSE, time.monotonic() - began))
        return self._done

    def _dry_page(self, selection: Selection, key: tuple[str, int], room: int | None) -> list[Row]:
        rows = page_after(self._connection, selection, key, PAGE)
        touched = self._touched(rows, room)
        self._count(touched, touched)
        return rows

    def _page(self, selection: Selection, key: tuple[str, int], room: int | None) -> list[Row]:
        connection = self._connection
        with self._turn, connection:  # commits, or rolls back on any exception
            connection.execute("BEGIN IMMEDIATE")
            rows = page_after(connection, selection, key, PAGE)
            touched = self._touched(rows, room)
            idle = [row for row in touched if row[STATE] != State.ACTIVE]
            # Build the DSNs before the change: the body is deleted with a message's last recipient.
            notices = self._notices(idle)
            self._changes.gone.clear()
            self._explain(touched)
            self._changes.carry_out([self._mark(recipient(row)) for row in idle])
            self._set_pending([row for row in touched if row[STATE] == State.ACTIVE])
            for put in notices:
                self._changes.put(put)
        for name in self._changes.gone:
            self._bodies.remove(name)
        self._count(touched, idle)
        return rows

    def _touched(self, rows: Sequence[Row], room: int | None) -> list[Row]:
        return [row for row in rows if self._touches(row)][:room]

    def _touches(self, row: Row) -> bool:
        state = recipient(row).state
        if state is State.ACTIVE:
            pending = None if row[PENDING] is None else Action(row[PENDING])
            return pending_after(self._action, pending) is not pending
        return steered(self._action, state) is not None

    def _mark(self, found: Recipient) -> Mark:
        state = steered(self._action, found.state)
        assert state is not None, "only what the action touches is changed"
        return Mark(
            message_id=found.message_id,
            n=found.n,
            owner=-1,
            state=state,
            at=self._now,
            attempts=found.attempts,
            due_at=self._now,
        )

    def _explain(self, rows: Sequence[Row]) -> None:
        """Record the reason; a release without one clears the reason of the hold."""
        if not rows or self._action is Action.FLUSH:
            return
        self._take(rows)
        self._connection.execute(queries("admin")["reason"], (self._reason,))

    def _take(self, rows: Sequence[Row]) -> None:
        self._connection.execute(queries("server")["keys_clear"])
        insert(self._connection, "put_keys", [(row[0], row[1]) for row in rows])

    def _set_pending(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        pending = pending_after(self._action, None)
        self._take(rows)
        self._connection.execute(queries("admin")["set_pending"], (None if pending is None else pending.value,))

    def _notices(self, rows: Sequence[Row]) -> list[Put]:
        if self._notice is None:
            return []
        puts = []
        for entry in entries_of(rows):
            if entry.message.id not in self._built:
                self._built[entry.message.id] = self._notice(self._with_reason(entry))
            puts.append(self._built[entry.message.id])
        return [put for put in puts if put is not None]

    def _with_reason(self, entry: Entry) -> Entry:
        return Entry(entry.message, [replace(found, reason=self._reason) for found in entry.recipients])

    def _count(self, touched: Sequence[Row], shown: Sequence[Row]) -> None:
        done = self._done
        done.recipients += len(touched)
        done.requested += sum(row[STATE] == State.ACTIVE for row in touched)
        done.messages += len({row[0] for row in touched})
        for entry in entries_of(shown):
            if len(done.entries) >= SHOWN:
                break
            done.entries.append(self._with_reason(entry))
