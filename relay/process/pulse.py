"""A child's sign of life: a counter in shared memory, which its event loop turns and the supervisor looks at.

Shared memory rather than a pipe or a socket: a beat is one store, needs no reading, and can neither block nor run full
while the supervisor is busy. Must not be turned by any other thread than the loop's: what is watched is that the loop
goes round, not that the disk is quick.
"""

import asyncio
import mmap
from typing import Final

BEAT_EVERY: Final = 1.0
"""Seconds between beats, and between the supervisor's looks."""


class Pulse:
    """Made before the fork, shared after it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)
        self._seen = 0
        self._silent = 0.0

    def beat(self) -> None:
        """Turn the counter. One octet is enough: it is looked at after each few beats."""
        self._memory[0] = (self._memory[0] + 1) & 0xFF

    def keep_beating(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on, for as long as the loop goes round."""
        self.beat()
        loop.call_later(BEAT_EVERY, self.keep_beating, loop)

    def silent(self, passed: float) -> float:
        """A look of the supervisor, `passed` seconds after the one before: for how long there was no beat."""
        seen = self._memory[0]
        self._silent = self._silent + passed if seen == self._seen else 0.0
        self._seen = seen
        return self._silent

    def reset(self) -> None:
        """Another child will beat it."""
        self._silent = 0.0
