"""Passes on claimed recipients: to a lane, to another worker, back to the queue, or to a failure outcome.

Mail whose domain has no known route waits here for DNS. The number of waiting domains is limited, and the bodies in
memory count against the worker's budget.
"""

from collections.abc import Callable

from relay.delivery.lanes import Elsewhere, Lanes, Placement
from relay.delivery.marker import Marker
from relay.delivery.outcomes import Outcomes
from relay.delivery.routing import RouteError
from relay.delivery.runner import LaneRunner
from relay.delivery.tasks import Tasks
from relay.delivery.window import Budget
from relay.delivery.work import Work, split
from relay.model.notices import Due, Notice
from relay_queue.model import Body, Destination, Entry

_ROUTING_MOST = 500
"""Most domains with a route look-up in progress, per worker."""
_USER_SUSPENDED_FOR = 300.0
"""Seconds until mail of a suspended user becomes due again, at most."""


class Dispatcher:
    """Dispatches one worker's claimed entries."""

    def __init__(
        self,
        lanes: Lanes,
        marker: Marker,
        outcomes: Outcomes,
        tasks: Tasks,
        budget: Budget,
        *,
        recipients_per_message: int,
        notify: Callable[[Notice, int], None],
        wall: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._marker = marker
        self._outcomes = outcomes
        self._tasks = tasks
        self._budget = budget
        self._notify = notify
        self._wall = wall
        self._routing: dict[str, list[tuple[Entry, Body]]] = {}
        self.recipients_per_message = recipients_per_message
        """Most recipients in one transaction. Replaced on reload."""

    @property
    def routing_has_room(self) -> bool:
        """Whether another route look-up may start."""
        return len(self._routing) < _ROUTING_MOST

    def is_routing(self, domain: str) -> bool:
        """Whether a route look-up for the domain is in progress."""
        return domain in self._routing

    def dispatch(self, entry: Entry, body: Body | None, placement: Placement) -> None:
        """Pass on recipients of one domain or of one lane according to their placement."""
        message, group = entry.message, entry.recipients
        if isinstance(placement, LaneRunner) and placement.stopping:
            # A reload replaced the lane while this mail was being claimed for it.
            self._marker.release([Work(message, group, None)], due_at=self._wall())
        elif isinstance(placement, LaneRunner):
            if placement.paused:
                self._outcomes.paused(placement, entry)
            elif message.user is not None and message.user in self._lanes.suspended_users:
                self._put_back_suspended(entry)
            else:
                for work in split(message, group, body, self.recipients_per_message):
                    placement.add(work)
        elif isinstance(placement, RouteError):
            self._outcomes.unroutable(entry, placement, group[0].domain)
        else:
            self._marker.release([Work(message, group, None)], due_at=self._wall())
            if isinstance(placement, Elsewhere):
                self.notify_owner(group[0].destination, placement)

    def route(self, entry: Entry, body: Body) -> None:
        """Look up the route for the entry's domain. Later entries for the same domain wait for the same look-up."""
        domain = entry.recipients[0].domain
        self._budget.used += len(body.head)
        waiting = self._routing.get(domain)
        if waiting is not None:
            waiting.append((entry, body))
            return
        self._routing[domain] = [(entry, body)]
        self._tasks.spawn(self._routed(domain))

    async def look_up(self, domain: str) -> Placement | None:
        """Look up a domain's placement. Mail that arrives for the domain meanwhile is dispatched afterwards."""
        self._routing[domain] = []
        await self._routed(domain)
        return self._lanes.cached(domain, self._wall())

    def notify_owner(self, destination: Destination, placement: Elsewhere) -> None:
        """Notify the first worker that owns a share of the lane that the destination is due."""
        self._notify(Due(destination), placement.owners[0])

    def release(self) -> None:
        """Return mail that waits for a route to the queue. The look-up tasks must already be cancelled."""
        waiting = [entry for entries in self._routing.values() for entry, _ in entries]
        self._routing.clear()
        self._marker.release([Work(entry.message, entry.recipients, None) for entry in waiting], due_at=self._wall())

    async def _routed(self, domain: str) -> None:
        placement = await self._lanes.place(domain)
        for entry, body in self._routing.pop(domain):
            self._budget.used -= len(body.head)
            self.dispatch(entry, body, placement)

    def _put_back_suspended(self, entry: Entry) -> None:
        suspension = self._lanes.suspended_users[entry.message.user or ""]
        due_at = min(suspension.until or float("inf"), self._wall() + _USER_SUSPENDED_FOR)
        works = [Work(entry.message, entry.recipients, None)]
        self._marker.release(works, due_at=due_at)
