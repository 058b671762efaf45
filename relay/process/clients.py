"""Connections by client over all workers: open ones and those of the last minute, as `limits` bounds both.

The kernel spreads one client's connections over the workers, so that a cap kept by each alone would be as many caps.
The memory is that of `relay.submission.counts`: no locks, so a worker that is killed in the middle holds up nobody.
What it had counted is forgotten by the supervisor when it sees the death: the kernel closed those connections.
What came in the last minute is kept: that is what a client did, whoever served it.
"""

import time

from relay.submission.counts import Counts, SharedCounts

_SLOTS = 16_384
"""Clients that each worker can count, at least; 16 octets each, and only for those that are used."""
_SPARE = 8
"""Slots for each connection a worker may have: then a set without a free slot is one in millions."""
_STEP, _STEPS = 10, 6
"""Seconds of a step, and steps of the last minute."""


class SharedClients:
    """The memory, made before the workers are."""

    def __init__(self, workers: int, connections: int) -> None:
        """`connections`: most that each worker may have."""
        slots = max(_SLOTS, _SPARE * connections)
        self._counts = SharedCounts(workers, slots, 1)
        self._arrivals = SharedCounts(workers, slots, _STEPS)

    def column(self, worker: int) -> "Clients":
        """What one worker counts with; to be used in that worker alone."""
        return Clients(self._counts.column(worker), self._arrivals.column(worker))

    def forget(self, worker: int) -> None:
        """A worker died, and its connections with it. Only while none runs in its place."""
        self._counts.clear(worker)


class Clients:
    """One worker's view: counts its own connections, sees those of all."""

    __slots__ = ("_arrivals", "_counts")

    def __init__(self, counts: Counts, arrivals: Counts) -> None:
        self._counts = counts
        self._arrivals = arrivals

    def add(self, client: str, count: int) -> None:
        """Count connections that came; negative: that went."""
        self._counts.add(client, count, 0)

    def total(self, client: str) -> int:
        """Connections that the client has, at all workers together."""
        return sum(count for _, count in self._counts.since(client, 0))

    def arrived(self, client: str, now: float | None = None) -> int:
        """Count a connection that came, at `now` on the monotonic clock; how many did in the last minute."""
        step = int((time.monotonic() if now is None else now) // _STEP)
        self._arrivals.add(client, 1, step)
        return sum(count for _, count in self._arrivals.since(client, max(0, step - _STEPS + 1)))
