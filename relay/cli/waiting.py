"""Collects the facts about waiting recipients, which `relay.cli.why` puts into words.

If a relay runs, its workers' reports are read (`relay.process.reports`); otherwise they are ignored, however recent.
The lane of a recipient is known from a report, from the settings (routes), or from its last attempt. Only if a site is
suspended and none of these sources knows the lane, DNS is queried, for a few domains and with a short timeout.
"""

import asyncio
import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from relay.cli.context import Shell
from relay.cli.why import COUNTED, Around, suspended, why
from relay.delivery.report_records import LaneReport, OnWire
from relay_queue.model import Destination, Entry, Message, Recipient
from relay_queue.protocol import Admin
from relay_queue.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from relay.delivery.routes import Route

_BATCH = 200
"""Number of messages that are processed together."""
_DNS_DOMAINS = 100
"""Maximum number of domains for which one command queries DNS."""
_DNS_SECONDS = 2.0
"""Seconds that each batch waits for DNS."""
_DOMAINS_COUNTED = 100
"""Domains whose due times are kept in memory."""


class Waiting:
    """The facts at one moment."""

    def __init__(self, shell: Shell, admin: Admin, now: float) -> None:
        self._shell = shell
        self._admin = admin
        self._now = now
        self._suspensions = list(admin.suspensions())
        self._sites = any(stop.kind == "site" for stop in self._suspensions)
        self.running = shell.running()
        self._lanes: dict[str, LaneReport] = {}
        self._wires: dict[tuple[str, int], tuple[str, OnWire]] = {}
        self._places: dict[tuple[str, int], tuple[str, int]] = {}
        self._lane_of: dict[str, str] = {}
        """Lanes by domain, from the workers' reports and from DNS."""
        self._unknown: set[str] = set()
        """Domains for which DNS gave no lane."""
        self._left = _DNS_DOMAINS
        self._due_times = lru_cache(maxsize=_DOMAINS_COUNTED)(self._read_due_times)
        if self.running:
            self._read_reports()

    def explained(self, entries: Iterable[Entry]) -> Iterator[tuple[Message, Recipient, str]]:
        """Yield every recipient with the reason why it waits."""
        entries = iter(entries)
        while batch := list(itertools.islice(entries, _BATCH)):
            self._find_lanes(recipient for entry in batch for recipient in entry.recipients)
            for entry in batch:
                for recipient in entry.recipients:
                    yield entry.message, recipient, why(recipient, self.around(entry.message, recipient), self._now)

    def around(self, message: Message, recipient: Recipient) -> Around:
        """Return the facts about a recipient besides its row."""
        key = (recipient.message_id, recipient.n)
        if recipient.state is State.ACTIVE:
            lane, wire = self._wires.get(key, (None, None))
            name, place = self._places.get(key, (None, None))
            return Around(self.running, None, self._lanes.get(lane or name or ""), wire, place)
        if recipient.state is not State.QUEUED:
            return Around(self.running)
        name = self._lane(recipient)
        stop = suspended(message, recipient, name, self._suspensions, self._now)
        found = self._lanes.get(name or "")
        ahead = 0
        if stop is None and found is not None and recipient.due_at <= self._now:
            ahead = found.waiting + self._before(recipient)
        return Around(self.running, stop, found, None, None, ahead)

    # -- what the workers report ----------------------------------------------------------------------------------

    def _read_reports(self) -> None:
        from relay.process.reports import read

        for report in read(self._shell.data_dir, self._now):
            for told in report.lanes:
                known = self._lanes.get(told.name)
                self._lanes[told.name] = told if known is None else together(known, told)
                for domain in told.domains:
                    self._lane_of[domain] = told.name
                for place, piece in enumerate(told.line, 1):
                    for n in piece.ns:
                        self._places[piece.id, n] = told.name, place
                for wire in told.wire:
                    for n in wire.piece.ns:
                        self._wires[wire.piece.id, n] = told.name, wire
            self._lane_of |= report.suspended

    # -- lanes ----------------------------------------------------------------------------------------------------

    def _lane(self, recipient: Recipient) -> str | None:
        domain = recipient.domain
        return self._lane_of.get(domain) or self._by_settings(domain) or recipient.lane

    def _by_settings(self, domain: str) -> str | None:
        """Return the lane that the settings prescribe, if any."""
        from relay.delivery.site import limits_for

        route = self._prescribed(domain)
        return None if route is None else limits_for(self._shell.settings.throttle, route, domain)[0]

    @cached_property
    def _prescribed(self) -> "Callable[[str], Route | None]":
        from relay.delivery.routes import Policy, Route

        policy = Policy(self._shell.settings)

        def prescribed(domain: str) -> Route | None:
            route = policy.fixed(domain) or policy.literal(domain)
            return route if isinstance(route, Route) else None

        return prescribed

    def _find_lanes(self, recipients: Iterable[Recipient]) -> None:
        """Query DNS for domains whose lane is otherwise unknown and might belong to a suspended site."""
        if not self._sites or self._left <= 0:
            return
        wanted: dict[str, None] = {}
        for recipient in recipients:
            domain = recipient.domain
            if recipient.state is State.QUEUED and domain not in self._unknown and self._lane(recipient) is None:
                wanted[domain] = None
        domains = list(wanted)[: self._left]
        if not domains:
            return
        self._left -= len(domains)
        self._lane_of |= asyncio.run(_by_dns(self._shell, domains))
        self._unknown.update(domain for domain in domains if domain not in self._lane_of)

    # -- places ---------------------------------------------------------------------------------------------------

    def _before(self, recipient: Recipient) -> int:
        """Count the recipients of its destination that are due before it; those never tried come first."""
        untried = self._due_times(recipient.destination, False)
        if recipient.attempts == 0:
            return bisect_left(untried, recipient.due_at)
        return len(untried) + bisect_left(self._due_times(recipient.destination, True), recipient.due_at)

    def _read_due_times(self, destination: Destination, tried: bool) -> list[float]:
        return self._admin.due_times(destination, self._now, COUNTED, tried=tried)


def together(one: LaneReport, other: LaneReport) -> LaneReport:
    """Merge two workers' reports of one lane."""
    paused = [share for share in (one, other) if share.paused_until]
    until = min(share.paused_until for share in paused) if len(paused) == 2 else 0.0
    connecting = [share.connecting_since for share in (one, other) if share.connecting_since]
    return LaneReport(
        one.name,
        paused_until=until,
        cause=paused[0].cause if until else "",
        limit=one.limit or other.limit,
        rate=one.rate,
        max_connections=one.max_connections,
        waiting=one.waiting + other.waiting,
        wire=[*one.wire, *other.wire],
        connecting_since=min(connecting, default=0.0),
    )


async def _by_dns(shell: Shell, domains: Iterable[str]) -> dict[str, str]:
    """Return the lanes of these domains, as far as DNS answers in time."""
    from relay.delivery.routing import Route, Router
    from relay.delivery.site import limits_for

    router = Router(shell.settings)
    tasks = {domain: asyncio.ensure_future(router.route(domain)) for domain in domains}
    await asyncio.wait(tasks.values(), timeout=_DNS_SECONDS)
    found = {}
    for domain, task in tasks.items():
        if task.done() and isinstance(route := task.result(), Route):
            found[domain] = limits_for(shell.settings.throttle, route, domain)[0]
        task.cancel()
    await router.aclose()
    return found
