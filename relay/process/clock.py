"""Notices that the wall clock was set back: by NTP, an admin, a restored machine. Times are handed in."""

from pathlib import Path
from typing import Final

from relay_queue.sqlite.connect import FILE_NAME

NOTICED_FROM: Final = 60.0
"""Seconds; by less no mail waits that long."""


class Clock:
    """The wall clock beside the monotonic one, which nobody sets."""

    __slots__ = ("_ahead",)

    def __init__(self, wall: float, monotonic: float) -> None:
        self._ahead = wall - monotonic

    def set_back(self, wall: float, monotonic: float) -> float:
        """Seconds by which the wall clock went back since this was last told, in one step or several; 0 if by few."""
        ahead = wall - monotonic
        back = self._ahead - ahead
        if 0 <= back < NOTICED_FROM:
            return 0.0
        self._ahead = ahead
        return max(0.0, back)


def behind(data_dir: Path, wall: float) -> bool:
    """Whether the clock was set back since the queue was written to last, as far as that can matter to due times."""
    written = [path.stat().st_mtime for path in (data_dir / FILE_NAME, data_dir / f"{FILE_NAME}-wal") if path.exists()]
    return max(written, default=wall) >= wall + NOTICED_FROM
