"""A lane's window: the works that it holds in memory, by stream, and which of them is next. Knows no clock and no loop.

A work of a stream with a higher priority always comes first, so a lower stream never delays it: what is on the wire
ends, and the next slot is the higher stream's. Streams of the same priority take turns by weight. A single queue
ordered by priority would give the same order, but not the shares; a fixed turn of streams would give the shares, but
would let a full bulk stream delay a single transactional message by a whole turn.
"""

from collections import deque
from collections.abc import Iterator

from relay.delivery.work import Work
from relay_config.streams import Streams


class Budget:
    """Bytes of bodies that one worker holds in memory, over all its windows and the mail that waits for a route."""

    __slots__ = ("most", "used")

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0

    @property
    def room(self) -> bool:
        """Whether another body may be kept. The last one may pass the bound by its own size."""
        return self.used < self.most


class _Line:
    """The works of one stream."""

    __slots__ = ("priority", "served", "step", "works")

    def __init__(self, priority: int, weight: int) -> None:
        self.works: deque[Work] = deque()
        self.served = 0.0
        """How much the stream was served, in works divided by its weight (stride scheduling, Waldspurger 1995)."""
        self.limit(priority, weight)

    def limit(self, priority: int, weight: int) -> None:
        self.priority = priority
        self.step = 1.0 / weight


class Window:
    """The works of one lane. Iterating gives all of them, each stream in its order."""

    __slots__ = ("_budget", "_lines", "_served", "_streams", "size")

    def __init__(self, streams: Streams, budget: Budget) -> None:
        self._streams = streams
        self._budget = budget
        self._lines: dict[str, _Line] = {}
        self._served: dict[int, float] = {}
        """By priority: the `served` of the stream that was served last."""
        self.size = 0
        """How many works there are. A plain attribute: the planner reads it several times for each message."""

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Work]:
        for line in self._lines.values():
            yield from line.works

    def count(self, stream: str) -> int:
        """How many works of one stream there are."""
        line = self._lines.get(stream)
        return 0 if line is None else len(line.works)

    def add(self, work: Work) -> None:
        """A work that came in."""
        line = self._line(work)
        if not line.works:
            # A stream that had nothing to send must not make up for it now: others would wait for all of that.
            line.served = max(line.served, self._served.get(line.priority, 0.0))
        line.works.append(work)
        self.size += 1
        self._budget.used += work.held

    def put_back(self, work: Work) -> None:
        """A work that was taken and not sent is the next of its stream."""
        self._line(work).works.appendleft(work)
        self.size += 1
        self._budget.used += work.held

    def take(self) -> Work:
        """The next work, which leaves the window. There must be one."""
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
        """A work leaves without having been taken."""
        self._line(work).works.remove(work)
        self.size -= 1
        self._budget.used -= work.held

    def drain(self) -> list[Work]:
        """All works leave."""
        works = list(self)
        for line in self._lines.values():
            line.works.clear()
        self.size = 0
        self._budget.used -= sum(work.held for work in works)
        return works

    def reload(self, streams: Streams) -> None:
        """Take other priorities and weights; what waits stays."""
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
