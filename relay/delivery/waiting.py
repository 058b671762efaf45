"""Which destinations have due mail for a lane.

An ordered set for each stream, so that finding the next one costs the same however many there are: a lane to a
smarthost may serve every domain there is.
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
        """Forget all."""
        self._by_stream.clear()

    def streams(self) -> Iterator[str]:
        """The streams with destinations."""
        return iter(self._by_stream)

    def add(self, destination: Destination) -> None:
        """A destination has due mail; one that is there already keeps its turn."""
        self._by_stream.setdefault(destination.stream, {})[destination.domain] = None

    def take(self, stream: str) -> Destination:
        """The destination of a stream that waited longest; it leaves the set."""
        domains = self._by_stream[stream]
        domain = next(iter(domains))
        del domains[domain]
        if not domains:
            del self._by_stream[stream]
        return Destination(domain, stream)
