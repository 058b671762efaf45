"""Notices that the wall clock was set back: by NTP, an admin, a restored machine. Pure: times are handed in."""

from typing import Final

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
