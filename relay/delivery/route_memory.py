"""What was learned from DNS, remembered for a while: bounded, with one question under way per key.

Knows nothing of DNS: it keeps values with their terms. Times are seconds since the epoch and are handed in or come
from the clock given; a clock set back makes entries expire rather than live on.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_SKEW = 60.0
"""Seconds that a caller's idea of the time may lie behind the clock's."""


@dataclass(slots=True, frozen=True)
class Learned(Generic[T]):
    """A value and how long it may be used."""

    value: T
    ttl: float
    """Seconds."""
    lasts: bool = True
    """Worth more than a later failure to ask again."""
    failed: bool = False
    """Nothing was learned: a value that lasts stays in its place, until it is too stale."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    value: T
    since: float
    expires: float
    learned: float
    """When the value was last confirmed."""
    lasts: bool


class Memory(Generic[T]):
    """A dict with expiry, a size, and shared questions. `stale`: seconds that a lasting value outlives failures.

    Failures are remembered for `failed_most` seconds at most, whatever their terms.
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
        """The value, while it lives."""
        entry = self._entries.get(key)
        if entry is None or not entry.since <= now < entry.expires:
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def ask(self, key: str, question: Callable[[str], Awaitable[Learned[T]]]) -> T:
        """The value, by asking where it isn't known. Whoever asks for the same meanwhile waits for the same answer."""
        known = self.get(key, self._clock())
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._learn(key, question, self._entries, self._asking))
            self._asking[key] = task
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Shielded: one who stops waiting must not take the answer from the others.
        return await asyncio.shield(task)

    def clear(self) -> None:
        """Forget everything; questions under way are answered but not remembered."""
        self._entries = OrderedDict()
        self._asking = {}

    async def aclose(self) -> None:
        """Abandon the questions under way."""
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
        """Ask and remember, in the dicts of the time the question was put: `clear` may replace them meanwhile."""
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
                # The same object again: whoever holds on to it sees that nothing changed.
                value = old.value
        ttl = min(learned.ttl, self.failed_most) if learned.failed else learned.ttl
        entries[key] = _Entry(value, now - _SKEW, now + ttl, confirmed, lasts)
        entries.move_to_end(key)
        while len(entries) > self.size:
            entries.popitem(last=False)
        return value
