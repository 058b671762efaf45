"""Pins each busy worker to a CPU of its own if there are as many workers as CPUs.

A worker's threads share the interpreter lock, so two of them hardly ever run at once; they pass it back and forth
several times per message. If they run on two CPUs, each time one CPU has to wake the other, which costs more than a
switch on the same CPU. An idle worker is not pinned, so that its next work starts on whichever CPU is free.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_BUSY: Final = 0.4
_EASY: Final = 0.15
"""Load, as fractions of a CPU, from which a worker is pinned and below which it is released."""
_LOOK_EVERY: Final = 0.25
_IDLE_EVERY: Final = 0.5
"""Seconds between checks; the second value applies while there is hardly any load."""


def available() -> list[int]:
    """Return the CPUs that this process may use (a container or `taskset` may allow only some)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def place(slot: int, workers: int, cpus: Sequence[int]) -> int | None:
    """Return the CPU of the worker in a slot, or None for any CPU."""
    return cpus[slot % len(cpus)] if 1 < len(cpus) <= workers else None


class Keeper:
    """Pins all threads of this process to the slot's CPU while they are busy. For use in the event loop's thread."""

    def __init__(self, slot: int, workers: int) -> None:
        self._slot, self._workers = slot, workers
        self._cpus = available()
        self._may = hasattr(os, "sched_setaffinity")
        self._at, self._used = time.monotonic(), time.process_time()
        self._timer: asyncio.TimerHandle | None = None
        self.kept = False
        """Whether all threads are pinned to the slot's CPU."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start the periodic checks, if there is a CPU for the slot."""
        if self._may and place(self._slot, self._workers, self._cpus) is not None:
            self._timer = loop.call_later(_IDLE_EVERY, self._tick, loop)

    def stop(self) -> None:
        """Stop the periodic checks."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self, now: float, used: float) -> float:
        """Pin or release by the CPU seconds `used` until `now` (monotonic); returns the seconds to the next check."""
        share = (used - self._used) / max(now - self._at, 1e-9)
        self._at, self._used = now, used
        if self._may and share >= _BUSY and not self.kept:
            self._cpus = available()  # `taskset` may have changed it
            own = place(self._slot, self._workers, self._cpus)
            if own is not None:
                self._move({own})
        elif self.kept and share < _EASY:
            self._move(set(self._cpus))
        return _IDLE_EVERY if share < _EASY else _LOOK_EVERY

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        delay = self.look(time.monotonic(), time.process_time())
        if self._may:
            self._timer = loop.call_later(delay, self._tick, loop)

    def _move(self, cpus: set[int]) -> None:
        try:
            for thread in Path("/proc/self/task").iterdir():
                with contextlib.suppress(ProcessLookupError):  # the thread has ended in the meantime
                    os.sched_setaffinity(int(thread.name), cpus)
        except OSError:
            # Not permitted here (a system call filter), or the CPU is gone: leave the choice to the kernel.
            self._may = self.kept = False
        else:
            self.kept = len(cpus) == 1
