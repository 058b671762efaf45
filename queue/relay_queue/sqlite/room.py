"""An admin's changes on a full disk: release a part of the reserve and try the change again.

The write lock is held meanwhile, so that the server's waiting changes do not take the space first. Must not be used for
new mail.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from relay_queue import reserve
from relay_queue.protocol import QueueFullError
from relay_queue.sqlite.connect import TurnLock
from relay_queue.sqlite.faults import Fault, fault_of, for_want_of_room

_T = TypeVar("_T")


class Room:
    """Retries the changes of one shell connection when the disk is full."""

    def __init__(self, data_dir: Path, connection: sqlite3.Connection, turn: TurnLock) -> None:
        self._data_dir = data_dir
        self._connection = connection
        self._turn = turn
        self._tight = False

    def run(self, change: Callable[[], _T]) -> _T:
        """Run `change`, a complete transaction; retry it while the disk is full and the reserve has space to release.

        Raises what `change` raises.
        """
        try:
            return self._done(change())
        except (sqlite3.Error, OSError) as error:
            if not no_room(error, self._data_dir):
                raise
            self._tight = True
        with self._turn:
            return self._done(with_room(self._data_dir, change))

    def _done(self, result: _T) -> _T:
        if self._tight:
            # Free space in the log for the next change. Pages that cannot be copied now stay there.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return result


def with_room(data_dir: Path, change: Callable[[], _T]) -> _T:
    """Run `change` until it succeeds; release a part of the reserve after each failure for lack of space."""
    while True:
        try:
            return change()
        except Exception as error:
            if not no_room(error, data_dir) or not reserve.release(data_dir):
                raise


def no_room(error: BaseException, data_dir: Path) -> bool:
    """Whether an error or its cause means that the disk is full."""
    if isinstance(error, QueueFullError):
        return True
    cause = error.__cause__ or error
    return isinstance(cause, (sqlite3.Error, OSError)) and (
        fault_of(cause) is Fault.ROOM or for_want_of_room(cause, data_dir)
    )
