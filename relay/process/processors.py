"""Which CPU a worker runs on: one of its own, where the workers are as many as the CPUs.

A worker's threads share the interpreter's lock, so two of them hardly ever run at once; they hand it to and fro some
times a message. Where they are on two CPUs, each time one CPU has to wake the other, which costs more than a switch on
the same. With a worker for each CPU, moving about gains nothing; with fewer, a worker's threads may use two.
"""

import os
from collections.abc import Sequence


def available() -> list[int]:
    """The CPUs this process may use (a container or `taskset` may have left fewer than there are)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def place(slot: int, workers: int, cpus: Sequence[int]) -> int | None:
    """The CPU of the worker in a slot; None: any."""
    return cpus[slot % len(cpus)] if 1 < len(cpus) <= workers else None


def stay(slot: int, workers: int) -> int | None:
    """Keep the calling thread, and all threads that it starts, on the slot's CPU. None: they may move.

    So also where the system does not allow it.
    """
    cpu = place(slot, workers, available())
    if cpu is None or not hasattr(os, "sched_setaffinity"):
        return None
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError:
        return None
    return cpu
