"""Whether the database that a connection writes to is still the one in the data folder.

SQLite goes on writing to files that were deleted or replaced (sqlite.org/howtocorrupt.html §2.4), and commits to them
succeed, but nobody will ever read them. So a writer looks after each commit, before it reports it.
"""

import os
import time
from pathlib import Path

_HOLD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Only with O_PATH may a descriptor of the database be closed: closing another drops SQLite's locks (fcntl(2))."""

_LOOK_EVERY = 0.25
"""Seconds between looks at whether the files are still in their place; what is written in between is looked after."""


class Presence:
    """Holds the database file and its log, to see whether they were unlinked. `path` is the database's.

    To be made when SQLite has opened both: the log is there after the first read. Raises OSError.
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
        """A sentence if what was just committed is in a deleted file, else None. Costs two system calls."""
        if os.fstat(self._database).st_nlink and os.fstat(self._log).st_nlink:
            return None
        return self._sentence("was deleted or replaced")

    def moved(self) -> str | None:
        """As `lost`, and also a sentence if the files exist but are not found by their path any more."""
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
        """As `moved`, but looks only a few times a second, so that it may be asked for each message."""
        now = time.monotonic()
        if now < self._look_at:
            return None
        self._look_at = now + _LOOK_EVERY
        return self.moved()

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._database)
        os.close(self._log)

    def _sentence(self, what: str) -> str:
        return f"{self._path} {what} while the relay was running; restart the relay"
