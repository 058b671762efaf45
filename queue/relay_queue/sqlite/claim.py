"""Taking recipients into a worker's hands and giving them back: functions run inside the writer's transaction."""

import logging
import sqlite3

from relay_queue.decide import given_back
from relay_queue.model import Entry, Mark
from relay_queue.protocol import Action
from relay_queue.sqlite.apply import Changes, insert
from relay_queue.sqlite.rows import Row, message_of, recipient_of
from relay_queue.sqlite.sql import queries
from relay_queue.states import State

_log = logging.getLogger(__name__)
_SQL = queries("server")
_RECOVER_STEP = 500


def claim(connection: sqlite3.Connection, owner: int, domain: str, limit: int, now: float) -> list[Entry]:
    """See `Queue.claim`. Damaged rows are quarantined on the way and do not count."""
    entries: dict[str, Entry] = {}
    keys: list[Row] = []
    for tried in (0, 1):
        asked: dict[str, object] = {"domain": domain, "tried": tried, "now": now, "limit": limit - len(keys)}
        for row in _rows(connection, asked, now):
            try:
                message, recipient = message_of(row), recipient_of(row)
            except ValueError as error:
                _quarantine(connection, row[0], row[1], str(error), now)
                continue
            recipient.state, recipient.owner = State.ACTIVE, owner
            entries.setdefault(message.id, Entry(message, [])).recipients.append(recipient)
            keys.append((message.id, recipient.n))
    if keys:
        connection.execute(_SQL["keys_clear"])
        insert(connection, "put_keys", keys)
        connection.execute(_SQL["take"], (owner,))
    return list(entries.values())


def _rows(connection: sqlite3.Connection, asked: dict[str, object], now: float) -> list[Row]:
    try:
        return connection.execute(_SQL["claimable"], asked).fetchall()
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
    # A text that is none spoils the whole answer: ask row by row, and set the spoilt ones aside.
    rows = []
    for message_id, n in connection.execute(_SQL["claimable_keys"], asked).fetchall():
        try:
            rows += connection.execute(_SQL["one_row"], (message_id, n)).fetchall()
        except sqlite3.OperationalError as error:
            _quarantine(connection, message_id, n, str(error), now)
    return rows


def _quarantine(connection: sqlite3.Connection, message_id: str, n: int, why: str, now: float) -> None:
    _log.error("recipient %s/%d is quarantined: %s", message_id, n, ascii(why))
    connection.execute(_SQL["quarantine"], (f"damaged row: {ascii(why)[:900]}", now, message_id, n))


def quarantine_domains(connection: sqlite3.Connection, now: float) -> None:
    """Set aside every queued recipient whose domain is no text: else none could be listed for it."""
    spoilt = []
    for message_id, n, domain in connection.execute(_SQL["queued_domains"]):
        try:
            domain.decode()
        except UnicodeDecodeError:
            spoilt.append((message_id, n, domain))
    for message_id, n, domain in spoilt:
        _log.error("recipient %s/%d is quarantined: its domain is %s", ascii(message_id), n, ascii(domain[:300]))
        why = f"damaged row: its domain is {domain[:300]!a}"
        connection.execute(_SQL["quarantine_octets"], (why, now, message_id, n))


def owners(connection: sqlite3.Connection) -> list[int]:
    """The workers that have something in hand."""
    return [row[0] for row in connection.execute(_SQL["owners"]).fetchall()]


def give_back(changes: Changes, owner: int) -> int:
    """Give back some of what `owner` had in hand; returns how many, 0 when nothing is left."""
    rows = changes.connection.execute(_SQL["owned"], (owner, _RECOVER_STEP)).fetchall()
    changes.carry_out([_returned(row) for row in rows])
    return len(rows)


def _returned(row: Row) -> Mark:
    message_id, n, owner, wish, attempts, due_at, changed_at = row
    state = given_back(None if wish is None else Action(wish))
    return Mark(message_id=message_id, n=n, owner=owner, state=state, at=changed_at, attempts=attempts, due_at=due_at)
