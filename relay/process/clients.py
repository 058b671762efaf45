"""Counts each client's connections over all workers: the open ones and those of the last minute (see `limits`).

The kernel spreads one client's connections over the workers, so a limit kept by each worker alone would allow the
client that limit once per worker.
The shared memory is that of `relay.submission.counts`. It has no locks, so a worker that is killed during an update
blocks nobody. When a worker dies, the supervisor clears its count of open connections, because the kernel has closed
them. The counts of the last minute are kept, because they describe the client, whichever worker served it.
"""

import time

from relay.submission.counts import Counts, SharedCounts

_SLOTS = 16_384
"""Minimum number of clients that each worker can count; 16 bytes each, used only for the slots that are touched."""
_SPARE = 8
"""Slots per connection that a worker may have; with 8, one set in millions has no free slot."""
_STEP, _STEPS = 10, 6
"""Length of a step in seconds, and the number of steps in a minute."""


class SharedClients:
    """The shared memory, created before the workers are forked."""

    def __init__(self, workers: int, connections: int) -> None:
        """`connections` is the maximum per worker."""
        slots = max(_SLOTS, _SPARE * connections)
        self._counts = SharedCounts(workers, slots, 1)
        self._arrivals = SharedCounts(workers, slots, _STEPS)

    def column(self, worker: int) -> "Clients":
        """Return the counters of one worker, for use in that worker only."""
        return Clients(self._counts.column(worker), self._arrivals.column(worker))

    def forget(self, worker: int) -> None:
        """Clear the open connections of a dead worker. Call it only before its successor runs."""
        self._counts.clear(worker)


class Clients:
    """One worker's view: it counts its own connections and sees those of all workers."""

    __slots__ = ("_arrivals", "_counts")

    def __init__(self, counts: Counts, arrivals: Counts) -> None:
        self._counts = counts
        self._arrivals = arrivals

    def add(self, client: str, count: int) -> None:
        """Count opened connections; a negative `count` means closed ones."""
        self._counts.add(client, count, 0)

    def total(self, client: str) -> int:
        """Return the client's open connections at all workers together."""
        return sum(count for _, count in self._counts.since(client, 0))

    def arrived(self, client: str, now: float | None = None) -> int:
        """Count a new connection at `now` (monotonic seconds); returns the number in the last minute."""
        step = int((time.monotonic() if now is None else now) // _STEP)
        self._arrivals.add(client, 1, step)
        return sum(count for _, count in self._arrivals.since(client, max(0, step - _STEPS + 1)))
