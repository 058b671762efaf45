"""Leases, claiming recipients and giving them back: functions that run inside the writer's transaction."""

import logging
import sqlite3

from relay_queue.decide import given_back
from relay_queue.model import Destination, Entry, Mark, Owner
from relay_queue.protocol import Action
from relay_queue.sqlite.apply import Changes, insert
from relay_queue.sqlite.rows import Row, message_of, recipient_of
from relay_queue.sqlite.sql import queries
from relay_queue.states import State

_log = logging.getLogger(__name__)
_SQL = queries("server")
_RECOVER_STEP = 500


def lease(connection: sqlite3.Connection, node: str, worker: int, now: float) -> Owner:
    """See `Queue.lease`."""
    number = connection.execute(_SQL["new_lease"], (node, worker, now)).lastrowid
    assert number is not None, "an INSERT has a row id"
    return Owner(node, worker, number)


def claim(
    connection: sqlite3.Connection, owner: Owner, destination: Destination, limit: int, now: float
) -> list[Entry]:
    """See `Queue.claim`. Damaged rows are quarantined and do not count towards `limit`."""
    entries: dict[str, Entry] = {}
    keys: list[Row] = []
    for tried in (0, 1):
        asked: dict[str, object] = {
            "domain": destination.domain,
            "stream": destination.stream,
            "tried": tried,
            "now": now,
            "limit": limit - len(keys),
        }
        for row in _rows(connection, asked, now):
            try:
                message, recipient = message_of(row), recipient_of(row)
            except ValueError as error:
                _quarantine(connection, row[0], row[1], str(error), now)
                continue
            recipient.state, recipient.owner = State.ACTIVE, owner.lease
            entries.setdefault(message.id, Entry(message, [])).recipients.append(recipient)
            keys.append((message.id, recipient.n))
    if keys:
        connection.execute(_SQL["keys_clear"])
        insert(connection, "put_keys", keys)
        connection.execute(_SQL["take"], (owner.lease,))
    return list(entries.values())


def _rows(connection: sqlite3.Connection, asked: dict[str, object], now: float) -> list[Row]:
    try:
        return connection.execute(_SQL["claimable"], asked).fetchall()
    except sqlite3.OperationalError as error:
        if "UTF-8" not in str(error):
            raise
    # One text that is not UTF-8 makes the whole query fail: read row by row, and quarantine the damaged rows.
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


def quarantine_destinations(connection: sqlite3.Connection, now: float) -> None:
    """Quarantine queued recipients whose domain or stream is not UTF-8: one of them would make every listing fail."""
    damaged = []
    for message_id, n, *destination in connection.execute(_SQL["queued_destinations"]):
        for value in destination:
            try:
                value.decode()
            except UnicodeDecodeError:
                damaged.append((message_id, n, value))
                break
    for message_id, n, value in damaged:
        why = f"damaged row: its destination is {value[:300]!a}"
        _log.error("recipient %s/%d is quarantined: %s", ascii(message_id), n, why)
        connection.execute(_SQL["quarantine_bytes"], (why, now, message_id, n))


def leases_of_worker(connection: sqlite3.Connection, owner: Owner) -> list[int]:
    """Earlier leases of the owner's node and worker number."""
    rows = connection.execute(_SQL["leases_of_worker"], (owner.node, owner.worker, owner.lease))
    return [row[0] for row in rows.fetchall()]


def leases_of_node(connection: sqlite3.Connection, node: str) -> list[int]:
    """All leases of a node."""
    return [row[0] for row in connection.execute(_SQL["leases_of_node"], (node,)).fetchall()]


def give_back(changes: Changes, lease: int) -> int:
    """Give back some recipients claimed under a lease; returns how many. 0: none are left, and the lease is deleted."""
    rows = changes.connection.execute(_SQL["owned"], (lease, _RECOVER_STEP)).fetchall()
    changes.carry_out([_returned(row) for row in rows])
    if not rows:
        changes.connection.execute(_SQL["end_lease"], (lease,))
    return len(rows)


def _returned(row: Row) -> Mark:
    message_id, n, owner, pending, attempts, due_at, changed_at = row
    state = given_back(None if pending is None else Action(pending))
    return Mark(message_id=message_id, n=n, owner=owner, state=state, at=changed_at, attempts=attempts, due_at=due_at)
