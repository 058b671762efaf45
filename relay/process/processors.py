"""Which CPU a busy worker runs on: one of its own, where the workers are as many as the CPUs.

A worker's threads share the interpreter's lock, so two of them hardly ever run at once; they hand it to and fro some
times a message. Where they are on two CPUs, each time one CPU has to wake the other, which costs more than a switch on
the same. An idle worker moves about, so that what it is woken for begins on whichever CPU is free.
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
"""Parts of a CPU from which, and below which, a worker is kept on its own or let go."""
_LOOK_EVERY: Final = 0.25
_IDLE_EVERY: Final = 0.5
"""Seconds from look to look; the second while there is next to nothing to do."""


def available() -> list[int]:
    """The CPUs this process may use (a container or `taskset` may have left fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def place(slot: int, workers: int, cpus: Sequence[int]) -> int | None:
    """The CPU of the worker in a slot; None: any."""
    return cpus[slot % len(cpus)] if 1 < len(cpus) <= workers else None


class Keeper:
    """Keeps all threads of this process on the slot's CPU while they are busy. For the event loop's thread."""

    def __init__(self, slot: int, workers: int) -> None:
        self._slot, self._workers = slot, workers
        self._cpus = available()
        self._may = hasattr(os, "sched_setaffinity")
        self._at, self._used = time.monotonic(), time.process_time()
        self._timer: asyncio.TimerHandle | None = None
        self.kept = False
        """All threads are on the slot's CPU."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again and again, where there is a CPU for the slot."""
        if self._may and place(self._slot, self._workers, self._cpus) is not None:
            self._timer = loop.call_later(_IDLE_EVERY, self._tick, loop)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def look(self, now: float, used: float) -> float:
        """Act on how much was `used` (seconds of CPU so far) by `now` (monotonic); returns seconds to the next look."""
        share = (used - self._used) / max(now - self._at, 1e-9)
        self._at, self._used = now, used
        if self._may and share >= _BUSY and not self.kept:
            self._cpus = available()  # again, as `taskset` may have changed it
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
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(thread.name), cpus)
        except OSError:
            # Not permitted here (a filter of system calls), or the CPU is gone: the kernel knows best.
            self._may = self.kept = False
        else:
            self.kept = len(cpus) == 1
