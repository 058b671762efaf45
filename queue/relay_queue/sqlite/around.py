"""Claims recipients despite damaged pages: rows that can be read and changed are claimed, the others are left alone.

When SQLite finds a damaged page, it fails the whole statement and all later changes of the same transaction. So rows
are read one by one on the read-only connection, and claimed in separate transactions.
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
    """Rows of due recipients of a destination that can be read and decoded, up to `limit`; never-tried ones first.

    Skips damage and never raises sqlite3.DatabaseError.
    """
    rows: dict[Row, Row] = {}
    asked: dict[str, object] = {"domain": destination.domain, "stream": destination.stream, "now": now}
    # The index alone lists the recipients, so a damaged page of the table loses only the rows on it. The table is
    # searched as well, in case the index is damaged.
    for name in ("keys_by_index", "keys_by_table"):
        for key in _until_damage(connection, _DAMAGED[name], asked):
            if len(rows) >= limit:
                break
            if key not in rows and (row := _whole(connection, key)) is not None:
                rows[key] = row
    return list(rows.values())


def due(connection: sqlite3.Connection, asked: dict[str, object]) -> list[Row]:
    """As `Queue.due`, from the index, or from the table if the index is damaged. Raises sqlite3.Error if both are."""
    try:
        return connection.execute(_DAMAGED["due_by_index"], asked).fetchall()
    except sqlite3.DatabaseError:
        return connection.execute(_DAMAGED["due_by_table"], asked).fetchall()


def take(connection: sqlite3.Connection, rows: list[Row], owner: Owner) -> list[Entry]:
    """Claim those of the recipients that are still queued. Raises sqlite3.Error if one cannot be changed."""
    entries: dict[str, Entry] = {}
    for row in rows:
        message, recipient = message_of(row), recipient_of(row)
        if connection.execute(_DAMAGED["take"], (owner.lease, message.id, recipient.n)).rowcount:
            recipient.state, recipient.owner = State.ACTIVE, owner.lease
            entries.setdefault(message.id, Entry(message, [])).recipients.append(recipient)
    return list(entries.values())


def _until_damage(connection: sqlite3.Connection, query: str, asked: dict[str, object]) -> Iterator[Row]:
    """The rows of a query up to the first damaged one."""
    try:
        yield from connection.execute(query, asked)
    except sqlite3.DatabaseError:
        return


def _whole(connection: sqlite3.Connection, key: Row) -> Row | None:
    """The row of a key, or None if it cannot be read or decoded."""
    try:
        for row in connection.execute(_SQL["one_row"], key).fetchall():
            message_of(row)
            recipient_of(row)
            return tuple(row)
    except (sqlite3.DatabaseError, ValueError):
        return None
    return None
