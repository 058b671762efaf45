"""Counts over time that all workers of a server share: failed logins, messages and recipients of the last minutes.

The counts are a table in anonymous shared memory, created before the workers are forked. Each worker writes only to its
own column and adds up all columns when it reads. Therefore no locks are needed, and the counts of a worker that dies
pass to its successor. A column has a fixed number of slots. Each slot has the hash of a key, and one word per time
step: the step's number in the upper half and the count in the lower half, so that a single 8-byte store changes both.
The table must not grow, block, or hold keys in clear text: keys are hashed with a secret of this run. If a new key
finds no free slot, it replaces the key that was counted least recently.
"""

import mmap
import secrets
from hashlib import blake2b

_WAYS = 8
"""Number of slots in which a key may be stored."""
_WORD = 8
"""Bytes in a word."""
_COUNT_BITS = 32
_COUNT_MASK = (1 << _COUNT_BITS) - 1


class SharedCounts:
    """The shared memory, with a column for each worker."""

    def __init__(self, workers: int, slots: int, steps: int) -> None:
        """`slots`: keys for each worker, a multiple of 8. `steps`: how many steps of time are kept for each key."""
        assert slots % _WAYS == 0, "slots come in sets"
        self.slots = slots
        self.steps = steps
        self.secret = secrets.token_bytes(32)
        column = slots * (1 + steps)
        # Pages that were never written do not use memory.
        words = memoryview(mmap.mmap(-1, workers * column * _WORD)).cast("Q")
        self.columns = [words[worker * column : (worker + 1) * column] for worker in range(workers)]

    def column(self, worker: int) -> "Counts":
        """The view for one worker, which writes to that worker's column; use it only in that worker."""
        return Counts(self, worker)

    def clear(self, worker: int) -> None:
        """Clear a worker's counts. Call it only while no process writes to that column."""
        column = self.columns[worker]
        column[:] = memoryview(bytes(len(column) * _WORD)).cast("Q")


class Counts:
    """One worker's view: writes to its own column and reads all columns."""

    __slots__ = ("_columns", "_own", "_secret", "_sets", "_slots", "_steps")

    def __init__(self, shared: SharedCounts, worker: int) -> None:
        self._columns = shared.columns
        self._own = shared.columns[worker]
        self._secret = shared.secret
        self._slots = shared.slots
        self._sets = shared.slots // _WAYS
        self._steps = shared.steps

    def add(self, key: str, count: int, step: int) -> None:
        """Add to a key's count at a time step; a negative count undoes an addition at the same step."""
        hashed = self._hash(key)
        slot = self._find(self._own, hashed)
        if slot is None:
            if count < 0:
                # The key was replaced by another one, so the count to undo no longer exists.
                return
            slot = self._take(hashed)
        at = self._slots + slot * self._steps + step % self._steps
        word = self._own[at]
        # If the clock went back, the count is added to the newer step.
        newest = max(step, word >> _COUNT_BITS)
        before = word & _COUNT_MASK if word >> _COUNT_BITS == newest else 0
        self._own[at] = newest << _COUNT_BITS | min(max(before + count, 0), _COUNT_MASK)

    def since(self, key: str, first: int) -> list[tuple[int, int]]:
        """Pairs (step, count) of all workers from step `first` on, oldest first; a step may occur more than once."""
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
        # The worker that owns the column may have given the slot to another key in the meantime.
        return words if column[slot] == hashed else []

    def _find(self, column: memoryview, hashed: int) -> int | None:
        first = hashed % self._sets * _WAYS
        keys: list[int] = column[first : first + _WAYS].tolist()
        return first + keys.index(hashed) if hashed in keys else None

    def _take(self, hashed: int) -> int:
        """Assign a slot to a new key: a free one, or the one least recently counted. Returns its index."""
        first = hashed % self._sets * _WAYS
        own, steps = self._own, self._steps

        def newest(slot: int) -> int:
            start = self._slots + slot * steps
            return max(own[start : start + steps].tolist()) if own[slot] else -1

        slot = min(range(first, first + _WAYS), key=newest)
        # The order (clear the key, clear the counts, set the new key) ensures that no reader attributes the old key's
        # counts to the new key.
        own[slot] = 0
        start = self._slots + slot * steps
        own[start : start + steps] = memoryview(bytes(steps * _WORD)).cast("Q")
        own[slot] = hashed
        return slot

    def _hash(self, key: str) -> int:
        octets = key.encode("utf-8", "surrogatepass")
        # 0 marks a free slot, so it is not used as a hash.
        return int.from_bytes(blake2b(octets, digest_size=8, key=self._secret).digest()) or 1
