"""Detects that the wall clock was set back: by NTP, an admin or a restored machine. The caller passes the times."""

from pathlib import Path
from typing import Final

from relay_queue.sqlite.connect import FILE_NAME

NOTICED_FROM: Final = 60.0
"""Seconds. Smaller steps are ignored, because they delay mail by less than this."""


class Clock:
    """Compares the wall clock with the monotonic clock, which cannot be set."""

    __slots__ = ("_ahead",)

    def __init__(self, wall: float, monotonic: float) -> None:
        self._ahead = wall - monotonic

    def set_back(self, wall: float, monotonic: float) -> float:
        """Return the seconds by which the clock was set back since the last report, in one or more steps; 0 if few."""
        ahead = wall - monotonic
        back = self._ahead - ahead
        if 0 <= back < NOTICED_FROM:
            return 0.0
        self._ahead = ahead
        return max(0.0, back)


def behind(data_dir: Path, wall: float) -> bool:
    """Whether the clock was set back since the last write to the queue, by enough to matter for due times."""
    written = [path.stat().st_mtime for path in (data_dir / FILE_NAME, data_dir / f"{FILE_NAME}-wal") if path.exists()]
    return max(written, default=wall) >= wall + NOTICED_FROM
