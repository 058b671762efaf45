"""Keeps one fault that repeats from flooding the log. Pure: the time is handed in."""

from collections.abc import Hashable
from typing import Final

_EVERY: Final = 60.0
"""Seconds between reports of the same thing."""
_REMEMBERED: Final = 1000


class Limiter:
    """Counts what repeats."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def count(self, key: Hashable, now: float) -> int | None:
        """How often it was kept back since it was last told; None: keep it back now."""
        told_at, kept_back = self._seen.get(key, (float("-inf"), 0))
        if 0 <= now - told_at < _EVERY:
            self._seen[key] = told_at, kept_back + 1
            return None
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[key] = now, 0
        return kept_back
