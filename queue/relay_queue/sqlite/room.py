"""An admin's changes on a full disk: a part of the reserve is given up, and the change is made again.

The turn to write is kept meanwhile, so that the server's own waiting changes do not take the room first. Must not be
used for new mail.
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
    """Of one connection of the shell's."""

    def __init__(self, data_dir: Path, connection: sqlite3.Connection, turn: TurnLock) -> None:
        self._data_dir = data_dir
        self._connection = connection
        self._turn = turn
        self._tight = False

    def run(self, change: Callable[[], _T]) -> _T:
        """Make a change that is its own transaction, whole or not at all; again as long as there is room to give."""
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
            # So that the next change finds room in the log. What cannot be copied now stays there.
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return result


def with_room(data_dir: Path, change: Callable[[], _T]) -> _T:
    """Try until it succeeds, giving up a part of the reserve after each time that there was no room."""
    while True:
        try:
            return change()
        except Exception as error:
            if not no_room(error, data_dir) or not reserve.release(data_dir):
                raise


def no_room(error: BaseException, data_dir: Path) -> bool:
    """Whether an error, or the one behind it, tells of a full disk."""
    if isinstance(error, QueueFullError):
        return True
    cause = error.__cause__ or error
    return isinstance(cause, (sqlite3.Error, OSError)) and (
        fault_of(cause) is Fault.ROOM or for_want_of_room(cause, data_dir)
    )
