"""Claims due mail from the queue for lanes that have room.

There are two triggers: the scanner or a notice reports that a destination is due, or a lane reports that it has room
again. A claim is made only if the lane has room for the destination's stream. Other mail stays in the queue, where
administrators can see it and act on it. Two claims for one lane never run at the same time, because both would count
the same free room and together exceed it.
"""

from collections.abc import Callable

from relay.delivery.dispatch import Dispatcher
from relay.delivery.lanes import Lanes, Placement
from relay.delivery.marker import Marker
from relay.delivery.outcomes import Outcomes
from relay.delivery.routing import RouteError
from relay.delivery.runner import LaneRunner
from relay.delivery.tasks import Tasks
from relay_config.streams import Streams
from relay_queue.model import Destination, Entry, Owner
from relay_queue.protocol import Queue

_MOST = 200
"""Most recipients per claim. Limits how long one claim holds the queue's write lock."""


class Claims:
    """One worker's claims."""

    def __init__(
        self,
        queue: Queue,
        lanes: Lanes,
        dispatcher: Dispatcher,
        outcomes: Outcomes,
        marker: Marker,
        tasks: Tasks,
        streams: Streams,
        *,
        owner: Owner,
        wall: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._dispatcher = dispatcher
        self._outcomes = outcomes
        self._marker = marker
        self._tasks = tasks
        self._owner = owner
        self._wall = wall
        self.streams = streams
        """Replaced on reload."""
        self.stopping = False
        """If true, no further claims are made."""

    def due(self, destination: Destination) -> None:
        """Claim for a destination that may have due mail, or look up its route first."""
        if self.stopping:
            return
        placement = self._lanes.cached(destination.domain, self._wall())
        if placement is not None:
            self._found(destination, placement)
        elif not self._dispatcher.is_routing(destination.domain) and self._dispatcher.routing_has_room:
            self._tasks.spawn(self._look_up(destination))

    def refill(self, lane: LaneRunner) -> None:
        """Claim mail for a lane's due destinations, up to the lane's room for each stream."""
        if lane.waiting and not lane.claiming and not self.stopping and self._next(lane) is not None:
            lane.claiming = True
            self._tasks.spawn(self._claim(lane))

    async def _look_up(self, destination: Destination) -> None:
        placement = await self._dispatcher.look_up(destination.domain)
        if placement is not None:
            self._found(destination, placement)

    def _found(self, destination: Destination, placement: Placement) -> None:
        if isinstance(placement, LaneRunner):
            if placement.paused and placement.planner.suspended is None:
                self._tasks.spawn(self._share_pause(destination, placement))
            else:
                placement.waiting.add(destination)
                self.refill(placement)
        elif isinstance(placement, RouteError):
            self._tasks.spawn(self._reject(destination, placement))

    def _next(self, lane: LaneRunner) -> str | None:
        """Return the stream to claim for: the highest priority with due destinations and room in the lane."""
        ready = [stream for stream in lane.waiting.streams() if lane.room(stream)]
        return max(ready, key=lambda stream: self.streams[stream].priority, default=None)

    async def _claim(self, lane: LaneRunner) -> None:
        try:
            while not self.stopping and not lane.stopping and (stream := self._next(lane)) is not None:
                destination = lane.waiting.take(stream)
                limit = min(lane.room(stream), _MOST)
                entries = await self._take(destination, limit)
                if sum(len(entry.recipients) for entry in entries) >= limit:
                    lane.waiting.add(destination)  # more may be due: append, so that other destinations go first
                for entry in entries:
                    self._dispatcher.dispatch(entry, None, lane)
        finally:
            lane.claiming = False

    async def _share_pause(self, destination: Destination, lane: LaneRunner) -> None:
        """Defer due mail of a paused lane with the cause of the pause, so that administrators see the cause."""
        # One claim at a time. A running claim ends soon, because a paused lane has no room; the next scan comes here.
        if lane.claiming:
            return
        lane.claiming = True
        try:
            for entry in await self._take(destination, _MOST):
                self._dispatcher.dispatch(entry, None, lane)
        finally:
            lane.claiming = False

    async def _reject(self, destination: Destination, error: RouteError) -> None:
        for entry in await self._take(destination, _MOST):
            self._outcomes.unroutable(entry, error, destination.domain)

    async def _take(self, destination: Destination, limit: int) -> list[Entry]:
        """Claim entries and announce them to the marker, so that failures of one message share a DSN."""
        entries = await self._queue.claim(self._owner, destination, limit, self._wall())
        for entry in entries:
            self._marker.expect(entry.message.id, len(entry.recipients))
        return entries
