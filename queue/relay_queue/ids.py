"""Message ids: UUIDv7 (RFC 9562 §5.7) as 26 characters of base32hex in lower case (RFC 4648 §7), which sort by time.

Within a process ids only increase, even when the clock goes back; 74 random bits keep those of different processes
apart. Do not derive the time of receipt from an id: the message has its own field for it.
"""

import os
import threading
import time

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_LENGTH = 26
_TAIL_BITS = 74
"""rand_a (12) and rand_b (62) form one counter below the 48 bits of milliseconds (RFC 9562 §6.2, method 2)."""
_TAIL_END = 1 << _TAIL_BITS
_RAND_B = (1 << 62) - 1
_STEP_MASK = (1 << 32) - 1
_LOW_HALF = (1 << 70) - 1

_DRAW = 10
_POOL = 100 * _DRAW

_lock = threading.Lock()
_pool = b""
_used = 0
"""Bytes of the pool that have been used; none is used twice."""
_last = 0
"""The milliseconds and tail of the last id, without version and variant."""


def new_id(now: float | None = None) -> str:
    """A new id for a message received at `now` (seconds since the epoch; the wall clock when None)."""
    global _last  # noqa: PLW0603 -- one sequence per process is what makes the ids monotonic
    milliseconds = int((time.time() if now is None else now) * 1000)
    with _lock:
        random = _random()
        fresh = (milliseconds << _TAIL_BITS) | (random & (_TAIL_END - 1))
        if fresh >> _TAIL_BITS <= _last >> _TAIL_BITS:
            # Same millisecond, or the clock went back: continue from the last id by a random step, so that ids stay
            # hard to guess.
            fresh = _last + 1 + (random & _STEP_MASK)
        _last = fresh
    tail = fresh & (_TAIL_END - 1)
    return _encode((fresh >> _TAIL_BITS) << 80 | 7 << 76 | (tail >> 62) << 64 | 2 << 62 | (tail & _RAND_B))


def _random() -> int:
    # Random bytes are read from the kernel in blocks: one call per id took 15 us, more than the rest of its creation.
    global _pool, _used  # noqa: PLW0603 -- as above
    if _used == len(_pool):
        _pool, _used = os.urandom(_POOL), 0
    _used += _DRAW
    return int.from_bytes(_pool[_used - _DRAW : _used], "big")


def _forget_pool() -> None:
    global _pool, _used
    _pool, _used = b"", 0


os.register_at_fork(after_in_child=_forget_pool)  # parent and child must not use the same bytes


def is_id(text: str) -> bool:
    """Whether `text` has the form of an id (not whether such a message exists)."""
    return len(text) == _LENGTH and text[0] < "8" and all(char in _ALPHABET for char in text)


def _encode(value: int) -> str:
    # Encoded in two halves, because arithmetic on ints of more than 60 bits is slow.
    pairs, high, low = _PAIRS, value >> 70, value & _LOW_HALF
    return (
        f"{pairs[high >> 50]}{pairs[high >> 40 & 1023]}{pairs[high >> 30 & 1023]}{pairs[high >> 20 & 1023]}"
        f"{pairs[high >> 10 & 1023]}{pairs[high & 1023]}{pairs[low >> 60]}{pairs[low >> 50 & 1023]}"
        f"{pairs[low >> 40 & 1023]}{pairs[low >> 30 & 1023]}{pairs[low >> 20 & 1023]}{pairs[low >> 10 & 1023]}"
        f"{pairs[low & 1023]}"
    )
