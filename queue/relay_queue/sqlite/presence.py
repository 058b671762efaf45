"""Detects whether the database that a connection writes to is still the one in the data folder.

SQLite continues to write to files that were deleted or replaced (sqlite.org/howtocorrupt.html §2.4). Commits to them
succeed, but the data is lost. So a writer checks after each commit, before it reports success.
"""

import os
import time
from pathlib import Path

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""The descriptors must use O_PATH: closing any other descriptor of the database drops SQLite's locks (fcntl(2))."""

_LOOK_EVERY = 0.25
"""Seconds between checks of the files' paths while nothing is written; each commit has its own check (`lost`)."""


class Presence:
    """Holds descriptors of the database file and its log, to detect when they are unlinked. `path` is the database's.

    Create it after SQLite has opened both files; the log exists after the first read. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._look_at = 0.0
        self._database = os.open(path, _HOLD)
        try:
            self._log = os.open(path.with_name(f"{path.name}-wal"), _HOLD)
        except BaseException:
            os.close(self._database)
            raise

    def lost(self) -> str | None:
        """An error sentence if the last commit went to a deleted file, else None. Costs two system calls."""
        if os.fstat(self._database).st_nlink and os.fstat(self._log).st_nlink:
            return None
        return self._sentence("was deleted or replaced")

    def moved(self) -> str | None:
        """As `lost`, but also reports files that still exist but are no longer at their path."""
        if (sentence := self.lost()) is not None:
            return sentence
        held = os.fstat(self._database)
        try:
            found = self._path.lstat()
        except OSError:
            return self._sentence("was moved away")
        if (found.st_dev, found.st_ino) != (held.st_dev, held.st_ino):
            return self._sentence("was moved away and replaced")
        return None

    def moved_lately(self) -> str | None:
        """As `moved`, but checks only a few times a second, so that it can be called for each message."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + _LOOK_EVERY
        return self.moved()

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._database)
        os.close(self._log)

    def _sentence(self, what: str) -> str:
        return f"{self._path} {what} while the relay was running; restart the relay"
