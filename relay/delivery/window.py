"""A lane's window: the works that the lane holds in memory, by stream, and the order in which they start.

The window uses no clock and no event loop. A work of a stream with a higher priority always starts first, so a stream
with a lower priority delays it only by the transactions that are already running. Streams of the same priority share
the lane by weight (stride scheduling). Alternatives were rejected: a single queue ordered by priority cannot share by
weight, and a round-robin over all streams would let a full bulk stream delay a single transactional message by a whole
round.
"""

from collections import deque
from collections.abc import Iterator

from relay.delivery.work import Work
from relay_config.streams import Streams


class Budget:
    """Bytes of bodies that one worker holds in memory, in all its windows and for mail that waits for a route."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    @property
    def room(self) -> bool:
        """Whether another body may be kept. The last one may exceed the limit by its own size."""
        return self.used < self.most


class _Line:
    """The works of one stream."""

    __slots__ = ("priority", "served", "step", "works")

    def __init__(self, priority: int, weight: int) -> None:
        self.works: deque[Work] = deque()
        self.served = 0.0
        """Works started, divided by the stream's weight: the "pass" of stride scheduling (Waldspurger 1995)."""
        self.limit(priority, weight)

    def limit(self, priority: int, weight: int) -> None:
        self.priority = priority
        self.step = 1.0 / weight


class Window:
    """The works of one lane. Iteration yields all works, stream by stream, each in its order."""

    __slots__ = ("_budget", "_lines", "_served", "_streams", "size")

    def __init__(self, streams: Streams, budget: Budget) -> None:
        self._streams = streams
        self._budget = budget
        self._lines: dict[str, _Line] = {}
        self._served: dict[int, float] = {}
        """By priority: the `served` value of the stream that was served last."""
        self.size = 0
        """Number of works. A plain attribute, because the planner reads it several times for each message."""

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Work]:
        for line in self._lines.values():
            yield from line.works

    def count(self, stream: str) -> int:
        """Return the number of works of one stream."""
        line = self._lines.get(stream)
        return 0 if line is None else len(line.works)

    def add(self, work: Work) -> None:
        """Append a work to its stream."""
        line = self._line(work)
        if not line.works:
            # An idle stream must not catch up on the share it did not use, because other streams would wait meanwhile.
            line.served = max(line.served, self._served.get(line.priority, 0.0))
        line.works.append(work)
        self.size += 1
        self._budget.used += work.held

    def put_back(self, work: Work) -> None:
        """Put a work that was taken but not sent at the front of its stream."""
        self._line(work).works.appendleft(work)
        self.size += 1
        self._budget.used += work.held

    def take(self) -> Work:
        """Remove and return the next work. The window must not be empty."""
        best: _Line | None = None
        for line in self._lines.values():
            if line.works and (best is None or (line.priority, -line.served) > (best.priority, -best.served)):
                best = line
        assert best is not None, "a work is taken only where there is one"
        self._served[best.priority] = best.served
        best.served += best.step
        work = best.works.popleft()
        self.size -= 1
        self._budget.used -= work.held
        return work

    def remove(self, work: Work) -> None:
        """Remove a work without starting it."""
        self._line(work).works.remove(work)
        self.size -= 1
        self._budget.used -= work.held

    def drain(self) -> list[Work]:
        """Remove and return all works."""
        works = list(self)
        for line in self._lines.values():
            line.works.clear()
        self.size = 0
        self._budget.used -= sum(work.held for work in works)
        return works

    def reload(self, streams: Streams) -> None:
        """Apply new priorities and weights. Waiting works stay."""
        self._streams = streams
        for name, line in self._lines.items():
            line.limit(streams[name].priority, streams[name].weight)

    def _line(self, work: Work) -> _Line:
        name = work.message.stream
        line = self._lines.get(name)
        if line is None:
            stream = self._streams[name]
            line = self._lines[name] = _Line(stream.priority, stream.weight)
        return line
