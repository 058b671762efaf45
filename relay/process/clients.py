"""Open connections by client over all workers: `limits.connections_per_address` holds for the server as a whole.

The kernel spreads one client's connections over the workers, so that a cap kept by each alone would be as many caps.
The memory is that of `relay.submission.counts`: no locks, so a worker that is killed in the middle holds up nobody.
What it had counted is forgotten by the supervisor when it sees the death: the kernel closed those connections.
"""

from relay.submission.counts import Counts, SharedCounts

_SLOTS = 16_384
"""Clients that each worker can count, at least; 16 octets each, and only for those that are used."""
_SPARE = 8
"""Slots for each connection a worker may have: then a set without a free slot is one in millions."""


class SharedClients:
    """The memory, made before the workers are."""

    def __init__(self, workers: int, connections: int) -> None:
        """`connections`: most that each worker may have."""
        self._counts = SharedCounts(workers, max(_SLOTS, _SPARE * connections), 1)

    def column(self, worker: int) -> "Clients":
        """What one worker counts with; to be used in that worker alone."""
        return Clients(self._counts.column(worker))

    def forget(self, worker: int) -> None:
        """A worker died, and its connections with it. Only while none runs in its place."""
        self._counts.clear(worker)


class Clients:
    """One worker's view: counts its own connections, sees those of all."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def add(self, client: str, count: int) -> None:
        """Count connections that came; negative: that went."""
        self._counts.add(client, count, 0)

    def total(self, client: str) -> int:
        """Connections that the client has, at all workers together."""
        return sum(count for _, count in self._counts.since(client, 0))
