"""Applies a batch of puts and marks to messages and recipients as one SQL statement.

Few statements matter more than cheap ones: sqlite3 releases the GIL at each step of a statement, and next to a busy
event loop, reacquiring it costs more than the step (measured: a fifth of the relay's CPU). Therefore
`queries/changes.sql` has a view whose triggers do the work, and a batch is one INSERT into it. This module must not
commit, retry or resolve futures.
"""

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Final

from msgspec.structs import replace

from relay_queue.decide import settle
from relay_queue.model import Mark, Put
from relay_queue.protocol import Action
from relay_queue.sqlite.rows import NO_CHANGE, Row, mark_row, put_rows
from relay_queue.sqlite.sql import queries, repeated
from relay_queue.states import State

_SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Row counts of a statement; unused rows at its end are empty. There are few sizes, so that all of them stay in the
connection's cache of prepared statements."""
MOST_ROWS: Final = _SIZES[-1]
_SQL = queries("changes")
_MET = queries("server")["met"]


class Changes:
    """The view on one connection. `gone` collects body files that are no longer needed, until the caller clears it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.gone: list[str] = []
        connection.create_function("gone", 1, self._note)
        for name in ("view", "new_message", "new_recipient", "ended_recipient", "moved_recipient"):
            connection.execute(_SQL[name])

    def store(self, rows: Sequence[Row]) -> None:
        """Apply changes in order, up to `MOST_ROWS` in one statement. Raises sqlite3.Error; see `unplain`."""
        for start in range(0, len(rows), MOST_ROWS):
            some = rows[start : start + MOST_ROWS]
            size = next(size for size in _SIZES if size >= len(some))
            empty = [NO_CHANGE] * (size - len(some))
            self.connection.execute(_sized(size), tuple(chain.from_iterable((*some, *empty))))

    def put(self, put: Put, file_crc: int | None = None) -> None:
        """Store a message; `file_crc` is the CRC-32 of its body file, if it has one."""
        self.store(put_rows(put, file_crc))

    def carry_out(self, marks: Sequence[Mark]) -> None:
        """Apply marks without a check: the caller has already decided them."""
        self.store([mark_row(mark, checked=False) for mark in marks])

    def settle(self, marks: Sequence[Mark]) -> list[Mark]:
        """Record outcomes, each according to its recipient's current state. Returns the marks that were refused."""
        accepted, refused = [], []
        for mark in marks:
            met = self.connection.execute(_MET, (mark.message_id, mark.n)).fetchone()
            state, owner, pending = met or (State.QUEUED, None, None)
            after = settle(State(state), owner, None if pending is None else Action(pending), mark)
            if after is None:
                refused.append(mark)
            else:
                accepted.append(mark if after is mark.state else replace(mark, state=after))
        self.carry_out(accepted)
        return refused

    def _note(self, file: bytes) -> None:
        self.gone.append(file.decode(errors="replace"))


def unplain(error: Exception) -> bool:
    """Whether a statement failed because one of its marks is not plain; the statement then changed nothing.

    A mark is plain if the recipient is claimed under the mark's lease and has no pending action. Only then is no
    decision needed (`decide.settle`), so that one statement can apply the whole batch; other marks need `settle`.
    """
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_CONSTRAINT_TRIGGER


def insert(connection: sqlite3.Connection, query: str, rows: Sequence[Row]) -> None:
    """Insert rows with the named server query, up to `MOST_ROWS` per statement. Raises sqlite3.Error."""
    for start in range(0, len(rows), MOST_ROWS):
        some = rows[start : start + MOST_ROWS]
        connection.execute(repeated(queries("server")[query], len(some)), tuple(chain.from_iterable(some)))


@cache
def _sized(size: int) -> str:
    return repeated(_SQL["changes"], size)
