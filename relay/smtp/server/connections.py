"""How many connections there are, in all and by client, and who they are: caps, stress and shutdown ask it.

One per worker, shared by its listeners and kept over reloads. The cap in all is the worker's own; a client is counted
over all workers, where they share that (`ByClient`). A client is an IPv4 address or an IPv6 /64, which is what one
subscriber gets. Must not touch sockets.
"""

from collections.abc import Callable
from typing import Protocol

_STRESS = 0.8
"""Share of the cap above which idle clients are hurried (the precedent is Postfix's stress mode)."""


class Open(Protocol):
    """A connection as far as the counts are concerned."""

    def shut_down(self) -> None:
        """End when the running transaction has ended."""
        ...

    def abort(self) -> None:
        """End now."""
        ...

    def hurry(self) -> None:
        """Look at the timers now: they may have become shorter."""
        ...


class ByClient(Protocol):
    """Connections by client, over all workers."""

    def add(self, client: str, count: int) -> None:
        """Count connections that came; negative: that went."""
        ...

    def total(self, client: str) -> int:
        """Connections that the client has, at all workers together."""
        ...

    def arrived(self, client: str) -> int:
        """Count a connection that came; how many of the client did in the last minute, at all workers together."""
        ...


class Connections:
    """The open connections of a worker."""

    __slots__ = ("_by_client", "_everywhere", "_hurried_at", "on_empty", "open")

    def __init__(self, everywhere: ByClient | None = None) -> None:
        """`everywhere`: what the workers share; None where there is one alone."""
        self.open: set[Open] = set()
        self._by_client: dict[str, int] = {}
        self._everywhere = everywhere
        self._hurried_at = 0.0
        self.on_empty: Callable[[], None] | None = None
        """Called when the last connection has gone."""

    def __len__(self) -> int:
        return len(self.open)

    def add(self, connection: Open, client: str, in_all: int, by_client: int) -> bool:
        """Count one more, unless a cap is reached. `client` is "" while nobody knows it: only `in_all` counts."""
        if len(self.open) >= in_all or (client and not self._add_client(client, by_client)):
            return False
        self.open.add(connection)
        return True

    def remove(self, connection: Open, client: str) -> None:
        """Forget one; nothing happens where it was not added."""
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
        # Its own count alone tells of most floods, without a look at the others'.
        if own >= by_client:
            return False
        if self._everywhere is not None:
            # Counted first, looked at after: then two workers that accept at once cannot both take the last place.
            self._everywhere.add(client, 1)
            if self._everywhere.total(client) > by_client:
                self._everywhere.add(client, -1)
                return False
        self._by_client[client] = own + 1
        return True

    def too_often(self, client: str, in_a_minute: int) -> bool:
        """Count that a client came, whether it is let in or not. This bounds handshakes: 1 ms of the loop each."""
        return self._everywhere is not None and self._everywhere.arrived(client) > in_a_minute

    def stressed(self, in_all: int) -> bool:
        """Whether the cap is near."""
        return len(self.open) > in_all * _STRESS

    def hurry(self, now: float) -> None:
        """Let every connection look at its timers, at most once in five seconds."""
        if now - self._hurried_at >= 5:
            self._hurried_at = now
            for connection in list(self.open):
                connection.hurry()
