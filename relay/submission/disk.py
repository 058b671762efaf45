"""Checks whether the data folder's disk has room for more mail. Called before each message; cached for a second."""

import os
from collections.abc import Callable
from pathlib import Path

from relay_config.schema import Settings
from relay_queue import reserve

_LOOK_EVERY = 1.0
_PART = 0.02
"""Default: mail is accepted only while at least this fraction of the disk is free, and at least 1.5 times the largest
message size (the factor is Postfix's)."""


class DiskSpace:
    """The free space of one folder."""

    __slots__ = ("_clock", "_folder", "_looked_at", "_message", "_room", "_wanted")

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._folder = settings.data_dir
        self._wanted = settings.limits.free_disk
        self._message = settings.submission.max_message_size
        self._clock = clock
        self._looked_at = float("-inf")
        self._room = True

    def room(self) -> bool:
        """Whether mail may be accepted. Raises OSError when the folder cannot be examined."""
        now = self._clock()
        if not 0 <= now - self._looked_at < _LOOK_EVERY:
            self._room = self._look()
            self._looked_at = now
        return self._room

    def _look(self) -> bool:
        free, needed = _free_and_needed(self._wanted, self._message, os.statvfs(self._folder))
        # Space freed from the reserve is for an admin's actions; mail must not use it.
        return free >= needed and reserve.whole(Path(self._folder))


def free_and_needed(settings: Settings, disk: os.statvfs_result) -> tuple[float, float]:
    """For the data folder's disk: (bytes that are free, bytes that must be free for mail to be accepted)."""
    return _free_and_needed(settings.limits.free_disk, settings.submission.max_message_size, disk)


def _free_and_needed(wanted: int | None, message: int, disk: os.statvfs_result) -> tuple[float, float]:
    free = disk.f_bavail * disk.f_frsize
    if wanted is not None:
        return free, wanted
    return free, max(1.5 * message, _PART * disk.f_blocks * disk.f_frsize)
