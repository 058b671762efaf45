"""Chooses the file of the event store that a process writes to, and bounds the size of the store.

The writing thread asks for the path before each write. When a day's file is large enough, the next segment begins.
The oldest files are removed at the same time, so that the store stays within its bound however fast events arrive.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from relay.events import store
from relay_config.schema import Settings

_SHARE: Final = 10
"""By default the store may use the file system's size divided by this, but at most `_DEFAULT_MOST`."""
_DEFAULT_MOST: Final = 4 * 1024 * 1024 * 1024
"""Bytes that the store may use by default, at most."""
_PARTS: Final = 8
"""The files being written, which are never removed, may use the store's size divided by this."""
_SMALLEST: Final = 64 * 1024
_LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a segment, at least and at most."""


class Segments:
    """The files of one process."""

    def __init__(self, data_dir: Path, slot: str, clock: Callable[[], float]) -> None:
        self._data_dir = data_dir
        self._slot = slot
        self._clock = clock
        self._most = _DEFAULT_MOST
        self._segment = _LARGEST
        self._day = ""
        self._number = 0
        self._path: Path | None = None

    def take(self, settings: Settings) -> None:
        """Use new settings."""
        self._most = most_bytes(self._data_dir, settings)
        # The supervisor, the command line and the workers each have a file that is being written.
        writers = (settings.workers or os.cpu_count() or 1) + 2
        self._segment = min(max(self._most // (_PARTS * writers), _SMALLEST), _LARGEST)

    def path(self) -> Path:
        """Return the file to write to now."""
        day = store.day_of(self._clock())
        if day != self._day or self._path is None:
            self._day, self._number = day, self._last_of(day)
            self._path = store.segment(self._data_dir, self._slot, day, self._number)
        if _size(self._path) >= self._segment:
            self._number += 1
            self._path = store.segment(self._data_dir, self._slot, day, self._number)
            # Writing the current events matters more than the bound. Housekeeping retries and reports the error.
            with contextlib.suppress(OSError):
                self.shrink()
        return self._path

    def shrink(self) -> int:
        """Remove the oldest files while the store is too large; returns how many. Raises OSError."""
        return store.shrink(self._data_dir, self._most, self._clock())

    def _last_of(self, day: str) -> int:
        """Return the day's last segment that an earlier run of this process wrote."""
        ours = [file.number for file in store.files(self._data_dir) if (file.slot, file.day) == (self._slot, day)]
        return max(ours, default=0)


def most_bytes(data_dir: Path, settings: Settings) -> int:
    """Return the maximum size of the store in bytes: `history.events_size`, or a default from the disk's size."""
    if settings.history.events_size is not None:
        return settings.history.events_size
    try:
        system = os.statvfs(data_dir)
    except OSError:
        return _DEFAULT_MOST  # the folder does not exist, so there are no events
    return min(_DEFAULT_MOST, system.f_blocks * system.f_frsize // _SHARE)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # opening the file will report the error
