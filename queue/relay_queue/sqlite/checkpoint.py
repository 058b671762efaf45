"""Copies the write-ahead log into the database (checkpoint) between commits, never inside one.

SQLite would do it within the COMMIT that exceeds the limit: the acknowledgements of that batch, and all other
processes, would wait for it. Must not run inside a transaction.
"""

import sqlite3

from relay_queue.sqlite.connect import WAL_PAGES, TurnLock

_PAGE = 4096
_PAGES_A_PUT = 1
_PAGES_A_MARK = 1
_PAGES_A_COMMIT = 10
"""The pages at the right edge of tables and indexes: written once per transaction, whatever its size."""
_LAST_RESORT = 8 * WAL_PAGES
"""SQLite's own checkpoint limit in pages, in case a writer never calls `run_if_long`."""


class Checkpoint:
    """Estimates by how much one writer has grown the log, and copies the log when it is long."""

    def __init__(self, connection: sqlite3.Connection, turn: TurnLock) -> None:
        self._connection = connection
        self._turn = turn
        self._pages = 0
        connection.execute(f"PRAGMA wal_autocheckpoint = {_LAST_RESORT}")

    def count(self, octets: int, recipients: int, marks: int) -> None:
        """Count a transaction that stored `octets` bytes and `recipients` recipients, and applied `marks` marks.

        The length is estimated, because Python's sqlite3 does not report the log's length.
        """
        self._pages += octets // _PAGE + recipients * _PAGES_A_PUT + marks * _PAGES_A_MARK + _PAGES_A_COMMIT

    def run_if_long(self) -> None:
        """Copy the log into the database if it is long. Raises sqlite3.Error."""
        if self._pages < WAL_PAGES:
            return
        left, length = self._copy()
        if left and length > 2 * WAL_PAGES:
            # Another process keeps appending, so the log was never copied to its end and cannot restart. While this
            # process holds the write lock nobody appends, and only the rest is left to copy.
            with self._turn:
                left, _ = self._copy()
        self._pages = left

    def _copy(self) -> tuple[int, int]:
        _, length, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return max(0, length - copied), length
