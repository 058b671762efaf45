"""Puts and marks as few set-wise statements, inside a transaction that the caller opened and will close.

Few statements matter more than cheap ones: sqlite3 releases the GIL at each step, and beside a busy event loop taking
it back can cost more than the step. Must not commit, retry or resolve anything.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain

from relay_queue.decide import settle
from relay_queue.model import Mark, Put
from relay_queue.protocol import Action
from relay_queue.sqlite.rows import Row, body_row, mark_row, message_row, recipient_row
from relay_queue.sqlite.sql import queries, repeated
from relay_queue.states import State

_SIZES = (128, 32, 8, 1)
"""Rows a statement: few shapes, so that all stay in the connection's cache of prepared statements."""
_SQL = queries("server")


def insert(connection: sqlite3.Connection, query: str, rows: Sequence[Row]) -> None:
    """Insert rows by the named query, many at a time."""
    start, left = 0, len(rows)
    for size in _SIZES:
        while left >= size:
            chunk = rows[start] if size == 1 else tuple(chain.from_iterable(rows[start : start + size]))
            connection.execute(_sized(query, size), chunk)
            start += size
            left -= size


@cache
def _sized(query: str, size: int) -> str:
    return repeated(_SQL[query], size)


def apply_puts(connection: sqlite3.Connection, puts: Sequence[tuple[Put, int | None]]) -> None:
    """Store messages, each with the checksum of its body file if it has one."""
    if not puts:
        return
    insert(connection, "put_messages", [message_row(put.entry.message) for put, _ in puts])
    insert(connection, "put_bodies", [body_row(put, crc) for put, crc in puts])
    insert(
        connection,
        "put_recipients",
        [recipient_row(recipient) for put, _ in puts for recipient in put.entry.recipients],
    )


def apply_marks(connection: sqlite3.Connection, marks: Sequence[Mark]) -> tuple[list[Mark], list[str]]:
    """Record outcomes. Returns the marks refused, and the files of messages that are gone with them."""
    _bind(connection, marks)
    if connection.execute(_SQL["marks_plain"]).fetchone()[0] == len(marks):
        return [], _run(connection, marks)
    accepted, refused = _settled(connection, marks)
    return refused, carry_out(connection, accepted)


def carry_out(connection: sqlite3.Connection, marks: Sequence[Mark]) -> list[str]:
    """Do what marks say, already decided. Returns the files of messages that are gone with their last recipient."""
    _bind(connection, marks)
    return _run(connection, marks)


def _bind(connection: sqlite3.Connection, marks: Sequence[Mark]) -> None:
    connection.execute(_SQL["marks_clear"])
    insert(connection, "put_marks", [mark_row(mark) for mark in marks])


def _settled(connection: sqlite3.Connection, marks: Iterable[Mark]) -> tuple[list[Mark], list[Mark]]:
    met = {(message_id, n): rest for message_id, n, *rest in connection.execute(_SQL["marks_met"]).fetchall()}
    accepted, refused = [], []
    for mark in marks:
        state, owner, wish = met.get((mark.message_id, mark.n), (State.QUEUED, None, None))
        after = settle(State(state), owner, None if wish is None else Action(wish), mark)
        if after is None:
            refused.append(mark)
        else:
            accepted.append(mark if after is mark.state else replace(mark, state=after))
    return accepted, refused


def _run(connection: sqlite3.Connection, marks: Sequence[Mark]) -> list[str]:
    ends = sum(mark.state > State.QUARANTINED for mark in marks)
    if ends < len(marks):
        connection.execute(_SQL["move_marked"])
    if not ends:
        return []
    connection.execute(_SQL["end_marked"])
    connection.execute(_SQL["remove_marked"])
    files = connection.execute(_SQL["files_of_gone"]).fetchone()[0]
    connection.execute(_SQL["remove_bodies"])
    connection.execute(_SQL["remove_messages"])
    return files.split(",") if files else []
