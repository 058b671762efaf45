"""Counts over time that all workers of a server share: failed logins, messages and recipients of the last minutes.

A table in anonymous shared memory, made before the workers are forked. Each worker writes its own column alone and adds
all columns up when it reads, so there are no locks, and a worker that dies leaves its counts to its successor. A column
is a fixed number of slots, each with a key's hash and one word for each step of time: the step's number above, the
count below, so that one store of eight octets changes both at once. Must not grow, block, or hold what was counted in
clear: keys are hashes under a secret of this run. When a key finds no free slot the one least recently counted goes.
"""

import mmap
import secrets
from hashlib import blake2b

_WAYS = 8
"""Slots in which a key may lie."""
_WORD = 8
"""Octets."""
_COUNT_BITS = 32
_COUNT_MASK = (1 << _COUNT_BITS) - 1


class SharedCounts:
    """The memory: a column for each worker."""

    def __init__(self, workers: int, slots: int, steps: int) -> None:
        """`slots`: keys for each worker, a multiple of 8. `steps`: how many steps of time are kept for each key."""
        assert slots % _WAYS == 0, "slots come in sets"
        self.slots = slots
        self.steps = steps
        self.secret = secrets.token_bytes(32)
        column = slots * (1 + steps)
        # Pages that were never written take no memory.
        words = memoryview(mmap.mmap(-1, workers * column * _WORD)).cast("Q")
        self.columns = [words[worker * column : (worker + 1) * column] for worker in range(workers)]

    def column(self, worker: int) -> "Counts":
        """What one worker writes to; to be used in that worker alone."""
        return Counts(self, worker)

    def clear(self, worker: int) -> None:
        """Forget all that a worker counted. Only while nobody writes to its column."""
        column = self.columns[worker]
        column[:] = memoryview(bytes(len(column) * _WORD)).cast("Q")


class Counts:
    """One worker's view: adds to its own column, reads all."""

    __slots__ = ("_columns", "_own", "_secret", "_sets", "_slots", "_steps")

    def __init__(self, shared: SharedCounts, worker: int) -> None:
        self._columns = shared.columns
        self._own = shared.columns[worker]
        self._secret = shared.secret
        self._slots = shared.slots
        self._sets = shared.slots // _WAYS
        self._steps = shared.steps

    def add(self, key: str, count: int, step: int) -> None:
        """Count at a step of time; a negative count takes back what was added at the same step."""
        hashed = self._hash(key)
        slot = self._find(self._own, hashed)
        if slot is None:
            if count < 0:
                # It had to make room: what it would take back is gone already.
                return
            slot = self._take(hashed)
        at = self._slots + slot * self._steps + step % self._steps
        word = self._own[at]
        # The clock may have gone back: then the newer step takes it.
        newest = max(step, word >> _COUNT_BITS)
        before = word & _COUNT_MASK if word >> _COUNT_BITS == newest else 0
        self._own[at] = newest << _COUNT_BITS | min(max(before + count, 0), _COUNT_MASK)

    def since(self, key: str, first: int) -> list[tuple[int, int]]:
        """(step, count) of all workers from step `first` on, oldest first; a step may come more than once."""
        hashed = self._hash(key)
        least = first << _COUNT_BITS
        found = [word for column in self._columns for word in self._words(column, hashed) if word >= least and word]
        found.sort()
        return [(word >> _COUNT_BITS, word & _COUNT_MASK) for word in found if word & _COUNT_MASK]

    def _words(self, column: memoryview, hashed: int) -> list[int]:
        slot = self._find(column, hashed)
        if slot is None:
            return []
        start = self._slots + slot * self._steps
        words: list[int] = column[start : start + self._steps].tolist()
        # Its writer may have given the slot to another key meanwhile.
        return words if column[slot] == hashed else []

    def _find(self, column: memoryview, hashed: int) -> int | None:
        first = hashed % self._sets * _WAYS
        keys: list[int] = column[first : first + _WAYS].tolist()
        return first + keys.index(hashed) if hashed in keys else None

    def _take(self, hashed: int) -> int:
        """Give a slot to a new key: a free one, or the one least recently counted."""
        first = hashed % self._sets * _WAYS
        own, steps = self._own, self._steps

        def newest(slot: int) -> int:
            start = self._slots + slot * steps
            return max(own[start : start + steps].tolist()) if own[slot] else -1

        slot = min(range(first, first + _WAYS), key=newest)
        # In this order no reader takes the old key's counts for the new one's.
        own[slot] = 0
        start = self._slots + slot * steps
        own[start : start + steps] = memoryview(bytes(steps * _WORD)).cast("Q")
        own[slot] = hashed
        return slot

    def _hash(self, key: str) -> int:
        octets = key.encode("utf-8", "surrogatepass")
        # A key of 0 would be a free slot.
        return int.from_bytes(blake2b(octets, digest_size=8, key=self._secret).digest()) or 1
