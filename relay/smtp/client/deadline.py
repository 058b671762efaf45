"""A deadline that is moved all the time and seldom met: one timer, re-armed only when it would ring too late."""

import asyncio
from collections.abc import Callable

_EARLY = 0.005


class Deadline:
    """Calls `ring` once the time that was `set` last has come. Setting mostly costs a comparison."""

    __slots__ = ("_at", "_loop", "_off", "_ring", "_timer", "_timer_at")

    def __init__(self, ring: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ring = ring
        self._at = 0.0
        self._off = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def set(self, at: float) -> None:
        """Ring at `at` (the loop's time) instead of when it would have rung."""
        self._at = at
        if self._off or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(at, self._due), at

    def off(self) -> None:
        """Never ring again."""
        self._off = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        if self._at - self._loop.time() > _EARLY:
            self.set(self._at)
        else:
            self._ring()
