"""Claiming around damaged pages: what can be read and taken is taken, what cannot stays where it is.

SQLite fails a whole statement when it meets a damaged page, and after that every change of the same transaction. So
rows are looked for on the connection that only reads, each by itself, and taken in transactions of their own.
"""

import sqlite3
from collections.abc import Iterator

from relay_queue.model import Destination, Entry, Owner
from relay_queue.sqlite.rows import Row, message_of, recipient_of
from relay_queue.sqlite.sql import queries
from relay_queue.states import State

_SQL = queries("server")
_DAMAGED = queries("damaged")


def readable(connection: sqlite3.Connection, destination: Destination, limit: int, now: float) -> list[Row]:
    """Rows of due recipients of a destination that can be read and decoded, up to `limit`; never-tried ones first."""
    rows: dict[Row, Row] = {}
    asked: dict[str, object] = {"domain": destination.domain, "stream": destination.stream, "now": now}
    # The index alone says which recipients there are, so a damaged page of the table costs the rows on it and no
    # others. Where the index is damaged the table is asked.
    for name in ("keys_by_index", "keys_by_table"):
        for key in _until_damage(connection, _DAMAGED[name], asked):
            if len(rows) >= limit:
                break
            if key not in rows and (row := _whole(connection, key)) is not None:
                rows[key] = row
    return list(rows.values())


def due(connection: sqlite3.Connection, asked: dict[str, object]) -> list[Row]:
    """As `Queue.due`, from whichever of index and table can be read. Raises sqlite3.Error where neither can."""
    try:
        return connection.execute(_DAMAGED["due_by_index"], asked).fetchall()
    except sqlite3.DatabaseError:
        return connection.execute(_DAMAGED["due_by_table"], asked).fetchall()


def take(connection: sqlite3.Connection, rows: list[Row], owner: Owner) -> list[Entry]:
    """Claim recipients that are still queued. Raises sqlite3.Error where one cannot be changed."""
    entries: dict[str, Entry] = {}
    for row in rows:
        message, recipient = message_of(row), recipient_of(row)
        if connection.execute(_DAMAGED["take"], (owner.lease, message.id, recipient.n)).rowcount:
            recipient.state, recipient.owner = State.ACTIVE, owner.lease
            entries.setdefault(message.id, Entry(message, [])).recipients.append(recipient)
    return list(entries.values())


def _until_damage(connection: sqlite3.Connection, query: str, asked: dict[str, object]) -> Iterator[Row]:
    """The rows of a query up to the first that cannot be read."""
    try:
        yield from connection.execute(query, asked)
    except sqlite3.DatabaseError:
        return


def _whole(connection: sqlite3.Connection, key: Row) -> Row | None:
    """A row that can be read and decoded, by its key."""
    try:
        for row in connection.execute(_SQL["one_row"], key).fetchall():
            message_of(row)
            recipient_of(row)
            return tuple(row)
    except (sqlite3.DatabaseError, ValueError):
        return None
    return None
