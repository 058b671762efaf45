"""The destinations that have due mail for a lane.

There is an ordered set for each stream, so finding the next destination takes constant time. That matters because a
lane to a smarthost may serve any number of domains.
"""

from collections.abc import Iterator

from relay_queue.model import Destination


class Waiting:
    """Destinations with due recipients in the queue, by stream."""

    __slots__ = ("_by_stream",)

    def __init__(self) -> None:
        self._by_stream: dict[str, dict[str, None]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_stream)

    def __iter__(self) -> Iterator[Destination]:
        for stream, domains in self._by_stream.items():
            for domain in domains:
                yield Destination(domain, stream)

    def clear(self) -> None:
        """Remove all destinations."""
        self._by_stream.clear()

    def streams(self) -> Iterator[str]:
        """Return the streams that have destinations."""
        return iter(self._by_stream)

    def add(self, destination: Destination) -> None:
        """Add a destination with due mail. A destination that is already present keeps its position."""
        self._by_stream.setdefault(destination.stream, {})[destination.domain] = None

    def take(self, stream: str) -> Destination:
        """Remove and return the destination of a stream that has waited longest."""
        domains = self._by_stream[stream]
        domain = next(iter(domains))
        del domains[domain]
        if not domains:
            del self._by_stream[stream]
        return Destination(domain, stream)
