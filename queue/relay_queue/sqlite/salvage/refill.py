"""Copies rows from a damaged queue into a new one and leaves out inconsistent data.

The constraints of the new queue (types, keys, states) reject invalid rows. The remaining rows must form complete
messages: a sender, a recipient, and a content that matches its checksum.
"""

import sqlite3
import zlib
from collections.abc import Container, Iterator, Sequence
from functools import cache
from itertools import islice

import msgspec

from relay_queue.ids import is_id
from relay_queue.model import Mark
from relay_queue.sqlite.salvage.doubt import doubtful
from relay_queue.sqlite.salvage.pages import Image
from relay_queue.sqlite.salvage.tables import Found, Table, rows, tables_of
from relay_queue.sqlite.sql import queries

_STEP = 5000
"""Rows per transaction."""
_MOST_RECIPIENTS = 1_000_000
"""Upper limit of the recipients of one message; a larger number means damage."""
_SHOWN = 1000
"""Maximum number of lost recipients listed for one message."""
_SQL = queries("salvage")
_IDS = {"message": "id", "recipient": "message_id", "body": "message_id", "ended": "message_id"}
"""The column that holds the message id, by table."""
_DUPLICATE = frozenset(
    {sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_ROWID}
)


class Salvaged(msgspec.Struct):
    """The result of a salvage."""

    messages: int = 0
    recipients: int = 0
    history: int = 0
    suspensions: int = 0
    lost_envelope: list[str] = msgspec.field(default_factory=list)
    """Ids of messages that are not in the new queue, because the sender or all recipients cannot be read."""
    lost_recipients: list[str] = msgspec.field(default_factory=list)
    """Recipients (`ID/n`) that cannot be read, of messages that are in the new queue."""
    doubtful: list[str] = msgspec.field(default_factory=list)
    """Recipients (`ID/n`) whose address seems damaged: they are quarantined in the new queue."""
    lost_content: list[str] = msgspec.field(default_factory=list)
    """Ids of messages whose content cannot be read: their recipients are quarantined in the new queue."""
    lost_rows: int = 0
    """Number of rows and pages, of all tables, that cannot be read."""

    @property
    def whole(self) -> bool:
        """Whether nothing was lost."""
        return not (self.lost_envelope or self.lost_recipients or self.doubtful or self.lost_content or self.lost_rows)


def refill(
    new: sqlite3.Connection, image: Image, files: Container[str], delivered: Sequence[Mark], now: float
) -> Salvaged:
    """Fill `new`, an empty queue of the same version. Raises sqlite3.Error.

    `files` are the names of the existing body files; `delivered` are deliveries that could not be recorded (see
    `unrecorded`); `now` is in seconds since the epoch.
    """
    done = Salvaged()
    tables = tables_of(new, image)
    for table in tables:
        _fill(new, table, rows(image, table, doubtful=False), done)
    for name in ("live_table", "note_live"):
        new.execute(_SQL[name])
    # The history comes first: it shows which recipients on doubtful pages have already ended.
    for table in reversed(tables):
        found = rows(image, table, doubtful=True)
        _fill(new, table, _unended(new, found) if table.name == "recipient" else found, done)
    new.execute("BEGIN IMMEDIATE")
    for mark in delivered:
        for name in ("end", "forget", "forget_live"):
            new.execute(_SQL[name], msgspec.to_builtins(mark))
    _leave_out(new, done)
    _quarantine(new, files, done, now)
    new.execute("COMMIT")
    counts = [new.execute(_SQL[name]).fetchone()[0] for name in ("messages", "recipients", "history", "suspensions")]
    done.messages, done.recipients, done.history, done.suspensions = counts
    return done


def _unended(new: sqlite3.Connection, found: Iterator[Found | None]) -> Iterator[Found | None]:
    """Leave out recipients that have ended: their page must have been freed, although no record of that is left."""
    for row in found:
        key = None if row is None else (row.values.get("message_id"), row.values.get("n"))
        if key is None or not new.execute(_SQL["has_ended"], key).fetchone()[0]:
            yield row


def _fill(new: sqlite3.Connection, table: Table, found: Iterator[Found | None], done: Salvaged) -> None:
    while step := list(islice(found, _STEP)):
        new.execute("BEGIN IMMEDIATE")
        for row in step:
            if row is None or not _plausible(table, row) or not _insert(new, table, row):
                done.lost_rows += 1
        new.execute("COMMIT")


def _plausible(table: Table, row: Found) -> bool:
    """Whether a row passes the checks that the schema cannot make."""
    column = _IDS.get(table.name)
    if column is not None and not (isinstance(found := row.values.get(column), str) and is_id(found)):
        return False
    number = row.values.get("n", 0)
    return isinstance(number, int) and 0 <= number < _MOST_RECIPIENTS


def _insert(new: sqlite3.Connection, table: Table, row: Found) -> bool:
    """Add a row. False if it is not a valid row; a row that already exists is not a loss."""
    values = row.values
    if table.name == "ended":
        # The history is read and pruned in rowid order; in other tables the rowid has no meaning.
        values = {"rowid": row.rowid, **values}
    try:
        try:
            new.execute(_insertion(table.name, tuple(values)), tuple(values.values()))
        except sqlite3.IntegrityError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_ROWID:
                raise
            new.execute(_insertion(table.name, tuple(row.values)), tuple(row.values.values()))
    except sqlite3.IntegrityError as error:
        return error.sqlite_errorcode in _DUPLICATE
    except (OverflowError, sqlite3.Error):
        return False
    return True


@cache
def _insertion(table: str, columns: tuple[str, ...]) -> str:
    # Both names come from our own schema, so the text is safe.
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608


def _leave_out(new: sqlite3.Connection, done: Salvaged) -> None:
    """Delete incomplete messages, and record their ids and the recipients that are missing."""
    lost = {row[0] for name in ("without_message", "without_recipient") for row in new.execute(_SQL[name])}
    done.lost_envelope = sorted(lost)
    for name in ("drop_recipients", "drop_messages", "drop_bodies"):
        new.execute(_SQL[name])
    for message_id, listed in new.execute(_SQL["gaps"]):
        there = set(map(int, listed.split(",")))
        missing = (n for n in range(max(there)) if n not in there)
        done.lost_recipients += [f"{message_id}/{n}" for n in islice(missing, _SHOWN)]


def _quarantine(new: sqlite3.Connection, files: Container[str], done: Salvaged, now: float) -> None:
    """Quarantine recipients to whom nothing may be sent; an admin can still fail them, which notifies the sender."""
    for message_id, head, crc, file in new.execute(_SQL["contents"]):
        recipients = new.execute(_SQL["addresses"], (message_id,)).fetchall()
        if head is None or zlib.crc32(head) != crc or (file is not None and file not in files):
            done.lost_content.append(message_id)
            head = b""  # noqa: PLW2901 -- a damaged header proves nothing
        header, addresses = head.partition(b"\r\n\r\n")[0], [address for _, address, _ in recipients]
        done.doubtful += [
            f"{message_id}/{n}" for n, address, domain in recipients if doubtful(address, domain, header, addresses)
        ]
    for key in done.doubtful:
        message_id, _, n = key.partition("/")
        new.execute(queries("server")["quarantine"], ("its address or its domain was damaged", now, message_id, int(n)))
    for message_id in done.lost_content:
        new.execute(_SQL["quarantine"], ("its content was lost when the queue was damaged", now, message_id))
