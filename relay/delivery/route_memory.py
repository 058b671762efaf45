"""A bounded cache for DNS results, with at most one look-up in progress per key.

The cache does not depend on DNS: it stores values with their TTLs. Times are in seconds since the epoch and are passed
in or come from the given clock. If the clock is set back, entries expire instead of living longer.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_SKEW = 60.0
"""Seconds by which a caller's time may be behind the clock."""


@dataclass(slots=True, frozen=True)
class Learned(Generic[T]):
    """The result of a look-up and how long it may be used."""

    value: T
    ttl: float
    """Seconds."""
    lasts: bool = True
    """The value stays in use when a later look-up fails."""
    failed: bool = False
    """The look-up failed: an older value with `lasts` stays in use until it is too stale."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    since: float
    expires: float
    learned: float
    """When a look-up last confirmed the value."""
    lasts: bool


class Memory(Generic[T]):
    """A size-limited cache with expiry and shared look-ups.

    `stale` is the number of seconds for which a value with `lasts` stays in use while look-ups fail. Failures are
    cached for at most `failed_most` seconds, whatever their TTL.
    """

    def __init__(self, size: int, clock: Callable[[], float], *, stale: float = 0.0) -> None:
        self.size = size
        self.failed_most = float("inf")
        self._clock = clock
        self._stale = stale
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[T]] = {}
        self._tasks: set[asyncio.Task[T]] = set()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now: float) -> T | None:
        """Return the value; None if it is unknown or has expired."""
        entry = self._entries.get(key)
        if entry is None or not entry.since <= now < entry.expires:
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def ask(self, key: str, question: Callable[[str], Awaitable[Learned[T]]]) -> T:
        """Return the value; look it up if it is not cached. Concurrent calls for a key share one look-up."""
        known = self.get(key, self._clock())
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._learn(key, question, self._entries, self._asking))
            self._asking[key] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Shielded, because a cancelled caller must not cancel the look-up for the other callers.
        return await asyncio.shield(task)

    def clear(self) -> None:
        """Remove everything. Look-ups in progress still return their results, but these are not cached."""
        self._entries = OrderedDict()
        self._asking = {}

    async def aclose(self) -> None:
        """Cancel the look-ups in progress."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _learn(
        self,
        key: str,
        question: Callable[[str], Awaitable[Learned[T]]],
        entries: OrderedDict[str, _Entry[T]],
        asking: dict[str, asyncio.Task[T]],
    ) -> T:
        """Look up and cache, in the dicts from the start of the look-up: `clear` may replace them meanwhile."""
        try:
            learned = await question(key)
        finally:
            asking.pop(key, None)
        now = self._clock()
        old = entries.get(key)
        value, confirmed, lasts = learned.value, now, learned.lasts and not learned.failed
        if old is not None:
            if learned.failed and old.lasts and 0 <= now - old.learned < self._stale:
                value, confirmed, lasts = old.value, old.learned, True
            elif value == old.value:
                # Keep the same object, so that callers can detect by identity that nothing changed.
                value = old.value
        ttl = min(learned.ttl, self.failed_most) if learned.failed else learned.ttl
        entries[key] = _Entry(value, now - _SKEW, now + ttl, confirmed, lasts)
        entries.move_to_end(key)
        while len(entries) > self.size:
            entries.popitem(last=False)
        return value
