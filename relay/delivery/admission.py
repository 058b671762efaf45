"""Hands mail that was just accepted to its lane straight from memory, without reading it back from the queue.

The accept path makes two calls for each message. `admit` runs before the message is stored and decides which recipients
this worker can keep in memory; these are stored as claimed. `offer` runs after the message is durable; it hands those
recipients to their lanes and reports the others as due. Claiming in the same write saves a second write per recipient.
"""

import asyncio
from collections.abc import Callable

from relay.delivery.claims import Claims
from relay.delivery.dispatch import Dispatcher
from relay.delivery.lanes import Elsewhere, Lanes, Placement
from relay.delivery.marker import Marker
from relay.delivery.routing import RouteError
from relay.delivery.runner import LaneRunner
from relay.delivery.tasks import Tasks
from relay.delivery.window import Budget
from relay.delivery.work import Work
from relay_queue.model import Body, Entry, Message, Owner, Put, Recipient
from relay_queue.states import State

_ROUTING_TOGETHER = 0.5
"""Seconds that `offer` waits for the routes of a message's domains, so that domains of one site share a transaction."""


class Admission:
    """Decides which recipients stay in memory. `admit` and `offer` return at once; neither waits for I/O."""

    def __init__(
        self,
        lanes: Lanes,
        dispatcher: Dispatcher,
        claims: Claims,
        marker: Marker,
        tasks: Tasks,
        budget: Budget,
        *,
        owner: Owner,
        wall: Callable[[], float],
    ) -> None:
        self._lanes = lanes
        self._dispatcher = dispatcher
        self._claims = claims
        self._marker = marker
        self._tasks = tasks
        self._budget = budget
        self._owner = owner
        self._wall = wall
        self.stopping = False
        """If true, no further recipients are kept in memory."""

    def admit(self, put: Put) -> None:
        """Mark the recipients that this worker keeps in memory as claimed (ACTIVE). Call before `put` is stored."""
        now = self._wall()
        not_before = put.entry.message.not_before
        due_at = now if not_before is None else max(now, not_before)
        keep = not self.stopping and self._budget.room and due_at <= now
        for recipient in put.entry.recipients:
            recipient.due_at = due_at
            if keep and self._keeps(recipient, now):
                recipient.state = State.ACTIVE
                recipient.owner = self._owner.lease

    def offer(self, put: Put) -> None:
        """Hand claimed recipients to their lanes and notify the owners of the others. Call after `put` is durable."""
        message, recipients = put.entry.message, put.entry.recipients
        now = self._wall()
        if message.not_before is not None and message.not_before > now:
            return
        if len(recipients) == 1:
            self._offer(message, recipients, put.body, self._lanes.cached(recipients[0].domain, now))
            return
        self._marker.expect(message.id, len(_claimed(put)))
        unknown = {r.domain for r in recipients if self._lanes.cached(r.domain, now) is None}
        if len(unknown) > 1:
            self._tasks.spawn(self._route_together(put, unknown))
        else:
            self._offer_groups(put, now)

    def _keeps(self, recipient: Recipient, now: float) -> bool:
        placement = self._lanes.cached(recipient.domain, now)
        if placement is None:
            return self._dispatcher.is_routing(recipient.domain) or self._dispatcher.routing_has_room
        if isinstance(placement, LaneRunner):
            return placement.room(recipient.stream) > 0
        return isinstance(placement, RouteError)

    def _offer_groups(self, put: Put, now: float) -> None:
        """Offer all recipients that share a lane together, so that they share a transaction."""
        groups: dict[tuple[str | int, State], tuple[Placement | None, list[Recipient]]] = {}
        for recipient in put.entry.recipients:
            placement = self._lanes.cached(recipient.domain, now)
            where = id(placement) if isinstance(placement, LaneRunner) else recipient.domain
            groups.setdefault((where, recipient.state), (placement, []))[1].append(recipient)
        for placement, group in groups.values():
            self._offer(put.entry.message, group, put.body, placement)

    async def _route_together(self, put: Put, domains: set[str]) -> None:
        """Wait briefly for DNS, so that domains at one site share a transaction even when no route is cached yet."""
        routing = [asyncio.ensure_future(self._lanes.learn(domain)) for domain in domains]
        try:
            await asyncio.wait(routing, timeout=_ROUTING_TOGETHER)
        except asyncio.CancelledError:
            self._marker.release([Work(put.entry.message, _claimed(put), None)], due_at=self._wall())
            raise
        finally:
            for task in routing:
                task.cancel()
        self._offer_groups(put, self._wall())

    def _offer(self, message: Message, group: list[Recipient], body: Body, placement: Placement | None) -> None:
        """Offer a group of recipients of one message. All have the same placement and state."""
        if group[0].state is State.ACTIVE:
            entry = Entry(message, group)
            if placement is None:
                self._dispatcher.route(entry, body)
            else:
                self._dispatcher.dispatch(entry, body, placement)
            return
        for destination in {recipient.destination for recipient in group}:
            if isinstance(placement, Elsewhere):
                self._dispatcher.notify_owner(destination, placement)
            else:
                self._claims.due(destination)


def _claimed(put: Put) -> list[Recipient]:
    return [recipient for recipient in put.entry.recipients if recipient.state is State.ACTIVE]
