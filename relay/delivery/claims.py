"""Claims due mail from the queue for lanes that have room.

Who calls: the scanner and notices say that a destination is due; a lane says that it has room again. A claim is made
only for a lane that has room for the destination's stream, so what does not fit stays in the queue, where it can be
seen and steered. Two claims for one lane never run at the same time: each would count the same room.
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
"""Recipients per claim: bounds the time for which one claim holds the queue's writer."""


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
        """Claim nothing more."""

    def due(self, destination: Destination) -> None:
        """Mail for the destination may be due."""
        if self.stopping:
            return
        placement = self._lanes.cached(destination.domain, self._wall())
        if placement is not None:
            self._found(destination, placement)
        elif not self._dispatcher.is_routing(destination.domain) and self._dispatcher.routing_has_room:
            self._tasks.spawn(self._look_up(destination))

    def refill(self, lane: LaneRunner) -> None:
        """Claim for a lane that has due destinations, as far as it has room for their streams."""
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
        """The stream to claim for: the one of highest priority that has due destinations and room in the lane."""
        ready = [stream for stream in lane.waiting.streams() if lane.room(stream)]
        return max(ready, key=lambda stream: self.streams[stream].priority, default=None)

    async def _claim(self, lane: LaneRunner) -> None:
        try:
            while not self.stopping and not lane.stopping and (stream := self._next(lane)) is not None:
                destination = lane.waiting.take(stream)
                limit = min(lane.room(stream), _MOST)
                entries = await self._take(destination, limit)
                if sum(len(entry.recipients) for entry in entries) >= limit:
                    lane.waiting.add(destination)  # at the end of its stream: the others come first
                for entry in entries:
                    self._dispatcher.dispatch(entry, None, lane)
        finally:
            lane.claiming = False

    async def _share_pause(self, destination: Destination, lane: LaneRunner) -> None:
        """Mail that is due while its lane is paused is deferred with the lane's cause, so that people see it."""
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
        """Claim, and let the failures of one message share a DSN."""
        entries = await self._queue.claim(self._owner, destination, limit, self._wall())
        for entry in entries:
            self._marker.expect(entry.message.id, len(entry.recipients))
        return entries
