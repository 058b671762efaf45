"""The worker's lanes: which lane serves a domain, and whether this worker owns a share of that lane."""

from collections.abc import Callable, Iterable

import msgspec

from relay.delivery.lane import LanePlanner
from relay.delivery.ownership import owners, ranking, share_of
from relay.delivery.routing import Route, RouteError, Router
from relay.delivery.runner import LaneHost, LaneRunner
from relay.delivery.site import limits_for
from relay.delivery.window import Budget, Window
from relay.delivery.work import Work
from relay.model.lane_key import LaneKey
from relay_config.schema import Lane, Settings
from relay_config.schema import Route as Smarthost
from relay_config.streams import Streams
from relay_queue.matching import lane_matches
from relay_queue.model import Suspension, SuspensionKind

_REMEMBERED = 100_000
"""Most domains in the placement cache. A full cache is cleared as a whole: a new look-up costs only microseconds."""
_LANE_IDLE = 600.0
"""Seconds after which an unused lane is removed, unless it is paused."""


class Elsewhere(msgspec.Struct, frozen=True):
    """The domain is served by other workers. `owners` are their slot numbers; notify the first one."""

    owners: tuple[int, ...]


class Suspended(msgspec.Struct, frozen=True):
    """An administrator suspended the domain or its lane; the mail waits in the queue."""

    reason: str


Placement = LaneRunner | Elsewhere | Suspended | RouteError


class Lanes:
    """The lanes of which this worker owns a share, and the placement of each domain."""

    def __init__(
        self,
        settings: Settings,
        router: Router,
        host: LaneHost,
        budget: Budget,
        *,
        worker: int,
        workers: int,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._router = router
        self._streams = Streams(settings)
        self._host = host
        self._budget = budget
        self._worker = worker
        self._workers = workers
        self._clock = clock
        self._by_domain: dict[str, tuple[Route | RouteError, Placement]] = {}
        self._suspended_domains: dict[str, str] = {}
        self._suspended_sites: list[tuple[str, str]] = []
        self.suspended_users: dict[str, Suspension] = {}
        self.suspended_sites: dict[str, str] = {}
        """Names of suspended lanes, by domain. Filled when a domain's placement is determined."""
        self.running: dict[LaneKey, LaneRunner] = {}
        self._retiring: list[LaneRunner] = []
        """Lanes of earlier settings whose last transactions have not ended yet."""

    def cached(self, domain: str, now: float) -> Placement | None:
        """Return the domain's placement if its route is cached, else None (`now`: seconds since the epoch)."""
        route = self._router.cached(domain, now)
        if route is None:
            return None
        known = self._by_domain.get(domain)
        if known is not None and known[0] is route:
            if isinstance(known[1], LaneRunner):
                known[1].used_at = self._clock()
            return known[1]
        return self._place(domain, route)

    @property
    def all(self) -> list[LaneRunner]:
        """All lanes that have or may open a connection, including retiring ones."""
        return [*self.running.values(), *self._retiring]

    async def place(self, domain: str) -> Placement:
        """Return the domain's placement; query DNS if the route is not cached."""
        route = await self._router.route(domain)
        while isinstance(route, Route) and not self._router.offers(route):
            # A reload happened during the look-up, and the new settings no longer give this route.
            route = await self._router.route(domain)
        return self._place(domain, route)

    async def learn(self, domain: str) -> None:
        """Look up the domain's route, so that `cached` finds it."""
        await self._router.route(domain)

    def suspend(self, suspensions: Iterable[Suspension]) -> None:
        """Replace all suspensions. Lanes that are no longer suspended resume."""
        self._suspended_domains = {}
        self._suspended_sites = []
        self.suspended_users = {}
        for suspension in suspensions:
            if suspension.kind is SuspensionKind.DOMAIN:
                self._suspended_domains[suspension.value] = suspension.reason
            elif suspension.kind is SuspensionKind.SITE:
                self._suspended_sites.append((suspension.value, suspension.reason))
            else:
                self.suspended_users[suspension.value] = suspension
        self._forget_domains()
        for lane in self.running.values():
            lane.planner.suspended = self._site_suspended(lane.name)
            lane.kick()

    def suspended_domain(self, domain: str) -> str | None:
        """Return the reason of the domain's suspension; None: not suspended."""
        return self._suspended_domains.get(domain)

    def reload(self, settings: Settings) -> list[Work]:
        """Apply new settings. Returns the works that waited in memory, because they may now belong to another lane.

        A lane is retired if the new settings would connect in another way (TLS, credentials, source address …); its
        connections are not used again. Other lanes keep their connections and get their new limits. A lane that now
        belongs to another worker gets no new work and becomes idle.
        """
        old, self._settings = self._settings, settings
        self._forget_domains()
        self._streams = Streams(settings)
        alike = (old.hostname, old.delivery) == (settings.hostname, settings.delivery)
        waiting: list[Work] = []
        for lane in list(self.running.values()):
            waiting += lane.planner.window.drain()
            name, limits = self._limits(lane.route, lane.domain)
            host = lane.route.smarthost
            # The password file may have changed even if the settings did not, so connections are never kept.
            secret = host is not None and host.user is not None
            if not alike or secret or name != lane.name or not self._router.offers(lane.route):
                self._retire(lane)
                continue
            lane.whole = limits
            ranks = owners(lane.name, limits, self._workers)
            rank = ranks.index(self._worker) if self._worker in ranks else 0
            lane.planner.window.reload(self._streams)
            lane.planner.limit(share_of(limits, rank, len(ranks)), settings.delivery.idle_timeout)
            lane.kick()
        return waiting

    def _retire(self, lane: LaneRunner) -> None:
        self.running = {key: other for key, other in self.running.items() if other is not lane}
        lane.retire()
        self._retiring.append(lane)

    def clean_up(self) -> None:
        """Remove lanes that have been unused for `_LANE_IDLE` seconds, and retired lanes that have ended."""
        now = self._clock()
        self._retiring = [lane for lane in self._retiring if not lane.ended]
        for key, lane in list(self.running.items()):
            paused = now < lane.planner.paused_until
            if not lane.busy and not paused and now - lane.used_at > _LANE_IDLE:
                del self.running[key]
                self._by_domain = {d: known for d, known in self._by_domain.items() if known[1] is not lane}

    def _place(self, domain: str, route: Route | RouteError) -> Placement:
        placement = self._placement(domain, route)
        if len(self._by_domain) >= _REMEMBERED:
            self._forget_domains()
        self._by_domain[domain] = (route, placement)
        return placement

    def _forget_domains(self) -> None:
        self._by_domain.clear()
        self.suspended_sites.clear()

    def _placement(self, domain: str, route: Route | RouteError) -> Placement:
        reason = self._suspended_domains.get(domain)
        if reason is not None:
            return Suspended(reason)
        if isinstance(route, RouteError):
            first = ranking(domain, self._workers)[0]
            return route if first == self._worker else Elsewhere((first,))
        name, limits = self._limits(route, domain)
        reason = self._site_suspended(name)
        if reason is not None:
            self.suspended_sites[domain] = name
            return Suspended(reason)
        ranks = owners(name, limits, self._workers)
        if self._worker not in ranks:
            return Elsewhere(ranks)
        own = "" if name == route.name else domain
        key = self._key(route, own)
        lane = self.running.get(key)
        if lane is None:
            share = share_of(limits, ranks.index(self._worker), len(ranks))
            window = Window(self._streams, self._budget)
            planner = LanePlanner(name, share, self._settings.delivery.idle_timeout, window)
            lane = self.running[key] = LaneRunner(planner, route, self._host, self._clock, own)
        lane.route = route
        lane.whole = limits
        lane.used_at = self._clock()
        return lane

    def _key(self, route: Route, domain: str) -> LaneKey:
        """Return what mail must have in common to share a lane. `domain` is empty unless it has its own limits."""
        delivery = self._settings.delivery
        return LaneKey(
            site=f"{route.lane}/{domain}" if domain else route.lane,
            source=" ".join(filter(None, (delivery.source_ipv4, delivery.source_ipv6))),
            tls=route.tls.value,
            account="" if route.smarthost is None or route.smarthost.user is None else _account(route.smarthost),
        )

    def _limits(self, route: Route, domain: str) -> tuple[str, Lane]:
        return limits_for(self._settings.throttle, route, domain)

    def _site_suspended(self, name: str) -> str | None:
        return next((reason for pattern, reason in self._suspended_sites if lane_matches(pattern, name)), None)


def _account(smarthost: Smarthost) -> str:
    """Identify the account at a smarthost. It includes the password file: the same user name may exist twice."""
    return f"{smarthost.user} {smarthost.password_file}"
