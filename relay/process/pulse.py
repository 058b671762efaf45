"""A child's heartbeat: a counter in shared memory that its event loop increments and the supervisor reads.

Shared memory is used rather than a pipe or a socket, because a beat is one store, needs no reader, and can neither
block nor fill up while the supervisor is busy. Only the loop's thread may increment it: the supervisor checks that the
loop runs, not that the disk is fast.
"""

import asyncio
import mmap
from typing import Final

BEAT_EVERY: Final = 1.0
"""Seconds between beats, and between the supervisor's checks."""


class Pulse:
    """The counter of one child, created before the fork and shared after it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)
        self._seen = 0
        self._silent = 0.0

    def beat(self) -> None:
        """Increment the counter. One byte is enough, because the supervisor reads it after every few beats."""
        self._memory[0] = (self._memory[0] + 1) & 0xFF

    def keep_beating(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on, for as long as the loop runs."""
        self.beat()
        loop.call_later(BEAT_EVERY, self.keep_beating, loop)

    def silent(self, passed: float) -> float:
        """Check the counter, `passed` seconds after the last check; returns the seconds without a beat."""
        seen = self._memory[0]
        self._silent = self._silent + passed if seen == self._seen else 0.0
        self._seen = seen
        return self._silent

    def reset(self) -> None:
        """Start again for another child."""
        self._silent = 0.0
