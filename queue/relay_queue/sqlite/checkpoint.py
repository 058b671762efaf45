"""When the write-ahead log is copied into the database: between commits, never inside one.

SQLite would do it within the COMMIT that passes the limit, so that the acknowledgements of that batch waited for it,
and the other processes with them. Must not run inside a transaction.
"""

import sqlite3

from relay_queue.sqlite.connect import WAL_PAGES, TurnLock

_PAGE = 4096
_PAGES_A_PUT = 1
_PAGES_A_MARK = 1
_PAGES_A_COMMIT = 10
"""The edges of the tables and indexes: written once a transaction, however much it holds."""
_LAST_RESORT = 8 * WAL_PAGES
"""SQLite's own limit, for a writer that never gets here."""


class Checkpoint:
    """Estimates how far the log has grown by one writer, and empties it."""

    def __init__(self, connection: sqlite3.Connection, turn: TurnLock) -> None:
        self._connection = connection
        self._turn = turn
        self._pages = 0
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LAST_RESORT}")

    def count(self, octets: int, recipients: int, marks: int) -> None:
        """A transaction has put and marked this much: an estimate, as sqlite3 does not tell the log's length."""
        self._pages += octets // _PAGE + recipients * _PAGES_A_PUT + marks * _PAGES_A_MARK + _PAGES_A_COMMIT

    def run_if_long(self) -> None:
        """Copy the log when it is long. Raises sqlite3.Error."""
        if self._pages < WAL_PAGES:
            return
        left, length = self._copy()
        if left and length > 2 * WAL_PAGES:
            # Another process keeps appending, so the log was never copied to its end and cannot begin anew: with the
            # turn in hand nobody appends, and only that rest is left to copy.
            with self._turn:
                left, _ = self._copy()
        self._pages = left

    def _copy(self) -> tuple[int, int]:
        _, length, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return max(0, length - copied), length
