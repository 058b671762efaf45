"""Keeps a repeated fault from flooding the log. Pure: the caller passes the time."""

from collections.abc import Hashable
from typing import Final

_EVERY: Final = 60.0
"""Seconds between two reports of the same fault."""
_REMEMBERED: Final = 1000


class Limiter:
    """Counts repeated faults by key."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def count(self, key: Hashable, now: float) -> int | None:
        """Return how many reports were suppressed since the last one, or None if this one is to be suppressed."""
        told_at, kept_back = self._seen.get(key, (float("-inf"), 0))
        if 0 <= now - told_at < _EVERY:
            self._seen[key] = told_at, kept_back + 1
            return None
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[key] = now, 0
        return kept_back
