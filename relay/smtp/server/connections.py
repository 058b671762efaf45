"""The open connections and their number, in total and by client; used for caps, stress mode and shutdown.

There is one instance per worker, shared by its listeners and kept across reloads. The total cap applies to each worker
alone; connections by client are counted over all workers if they share a `ByClient`. A client is an IPv4 address or an
IPv6 /64, which is what one subscriber gets. Must not touch sockets.
"""

from collections.abc import Callable
from typing import Protocol

_STRESS = 0.8
"""Fraction of the cap above which idle clients get shorter timeouts (the precedent is Postfix's stress mode)."""


class Open(Protocol):
    """The part of a connection that `Connections` needs."""

    def shut_down(self) -> None:
        """Close the connection when the current transaction has ended."""
        ...

    def abort(self) -> None:
        """Close the connection now."""
        ...

    def hurry(self) -> None:
        """Check the timers now, because the timeouts may have become shorter."""
        ...


class ByClient(Protocol):
    """Counts of connections by client, over all workers."""

    def add(self, client: str, count: int) -> None:
        """Add opened connections; a negative count removes closed ones."""
        ...

    def total(self, client: str) -> int:
        """Number of the client's open connections, over all workers."""
        ...

    def arrived(self, client: str) -> int:
        """Count a new connection. Returns the client's new connections of the last minute, over all workers."""
        ...


class Connections:
    """The open connections of a worker."""

    __slots__ = ("_by_client", "_everywhere", "_hurried_at", "on_empty", "open")

    def __init__(self, everywhere: ByClient | None = None) -> None:
        """`everywhere`: the counts that the workers share; None if there is only one worker."""
        self.open: set[Open] = set()
        self._by_client: dict[str, int] = {}
        self._everywhere = everywhere
        self._hurried_at = 0.0
        self.on_empty: Callable[[], None] | None = None
        """Called when the last connection has been removed."""

    def __len__(self) -> int:
        return len(self.open)

    def add(self, connection: Open, client: str, in_all: int, by_client: int) -> bool:
        """Add a connection and return True, unless a cap is reached.

        `in_all` and `by_client` are the caps. `client` is "" while the client is unknown; then only `in_all` applies.
        """
        if len(self.open) >= in_all or (client and not self._add_client(client, by_client)):
            return False
        self.open.add(connection)
        return True

    def remove(self, connection: Open, client: str) -> None:
        """Remove a connection; does nothing if it was not added."""
        if connection not in self.open:
            return
        self.open.discard(connection)
        if client:
            left = self._by_client[client] - 1
            if left:
                self._by_client[client] = left
            else:
                del self._by_client[client]
            if self._everywhere is not None:
                self._everywhere.add(client, -1)
        if not self.open and self.on_empty is not None:
            self.on_empty()

    def _add_client(self, client: str, by_client: int) -> bool:
        own = self._by_client.get(client, 0)
        # This worker's own count detects most floods without reading the shared counts.
        if own >= by_client:
            return False
        if self._everywhere is not None:
            # Count first, check afterwards, so that two workers that accept at the same time cannot both take the last
            # place.
            self._everywhere.add(client, 1)
            if self._everywhere.total(client) > by_client:
                self._everywhere.add(client, -1)
                return False
        self._by_client[client] = own + 1
        return True

    def too_often(self, client: str, in_a_minute: int) -> bool:
        """Count a new connection, accepted or not, and return whether the client exceeds `in_a_minute`.

        This limits TLS handshakes, each of which takes 1 ms of the event loop.
        """
        return self._everywhere is not None and self._everywhere.arrived(client) > in_a_minute

    def stressed(self, in_all: int) -> bool:
        """Whether the number of connections is close to the cap `in_all`."""
        return len(self.open) > in_all * _STRESS

    def hurry(self, now: float) -> None:
        """Let every connection check its timers, at most once in five seconds."""
        if now - self._hurried_at >= 5:
            self._hurried_at = now
            for connection in list(self.open):
                connection.hurry()
