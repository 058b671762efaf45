"""Finds the route for a domain: applies the rules of `relay.delivery.routes` to DNS look-ups and caches the results.

`Router.cached` is on the hot path and only reads a dict. All other methods query DNS at most once per domain and TTL.
Nothing here raises; errors are returned as `RouteError`.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.delivery.failure import FailureClass
from relay.delivery.lookup import Absent, Failed, Family, Found, FoundMx, Lookups, Unaskable
from relay.delivery.resolver import DnsResolver, is_local
from relay.delivery.route_memory import Learned, Memory
from relay.delivery.routes import (
    Policy,
    Route,
    RouteError,
    cap_targets,
    no_answer,
    order_addresses,
    order_hosts,
)
from relay.smtp.client.model import Target
from relay_config.names import is_address
from relay_config.schema import Settings

__all__ = ["Route", "RouteError", "Router"]

_log = logging.getLogger(__name__)

_TTL_LEAST: Final = 60.0
"""Seconds. Shorter TTLs would cause many look-ups with little benefit, because MX records rarely change."""
_TTL_MOST: Final = 3600.0
"""Seconds. A changed MX is used within an hour, however long its old TTL was."""
_TTL_ZERO: Final = 5.0
"""Seconds for TTL 0 ("do not cache"), so that a burst of mail still causes only one look-up."""
_TTL_NEGATIVE_MOST: Final = 900.0
_TTL_FAILED: Final = 60.0
"""Seconds that a failed look-up is cached; `failed_most` lowers it to half the shortest wait of `retry.schedule`, so
that each retry queries DNS again."""
_TTL_LOCAL: Final = 1.0
"""Seconds that a look-up failed by this machine's fault is cached; such faults may end at any moment."""
_STALE: Final = 86_400.0
"""Seconds that a route stays in use while its name servers fail (RFC 8767 §5 suggests 1 to 3 days)."""
_FOREVER: Final = float("inf")
_STRAGGLERS: Final = 1.0
"""Seconds to wait for the remaining host look-ups once one host's address is known."""
_LOCALHOST: Final = ("::1", "127.0.0.1")


@dataclass(slots=True, frozen=True)
class _Host:
    """A host's addresses of the enabled families, or why there are none."""

    v6: tuple[str, ...] = ()
    v4: tuple[str, ...] = ()
    absent: bool = False
    """The name does not exist."""
    failed: Failed | None = None
    """The failure, if a look-up failed and no other gave an address."""


class Router:
    """Routes and addresses with a cache. There is one per worker, used from one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        lookups: Callable[[Settings], Lookups] = lambda settings: DnsResolver(settings.dns),
        local: Callable[[str], bool] = is_local,
    ) -> None:
        self._rng = rng if rng is not None else random.Random()
        self._make_lookups = lookups
        self._local = local
        self._routes: Memory[Route | RouteError] = Memory(settings.dns.cache_size, clock, stale=_STALE)
        self._hosts: Memory[_Host] = Memory(settings.dns.cache_size, clock, stale=_STALE)
        self._take(settings)

    def reload(self, settings: Settings) -> None:
        """Apply new settings and clear the caches."""
        self._routes.clear()
        self._hosts.clear()
        self._take(settings)

    def cached(self, domain: str, now: float) -> Route | RouteError | None:
        """Return the domain's route if it is cached, else None (`now`: seconds since the epoch)."""
        return self._routes.get(domain, now)

    async def route(self, domain: str) -> Route | RouteError:
        """Return the route of a domain, given as a lower-case A-label or an address literal with brackets."""
        return await self._routes.ask(domain, self._learn_route)

    def offers(self, route: Route) -> bool:
        """Whether the current settings can give this route."""
        return self._policy.offers(route)

    async def addresses(self, route: Route) -> list[Target] | RouteError:
        """Return the targets to try for the route, in order: at least one, at most `addresses_per_host`."""
        try:
            return await self._targets(route)
        except Exception as error:  # noqa: BLE001 - a fault of ours must cost one domain a delay, never a lane
            _log.exception("routing to %s failed", route.lane)
            return _internal(error)

    async def aclose(self) -> None:
        """Cancel the look-ups in progress."""
        await self._routes.aclose()
        await self._hosts.aclose()

    def _take(self, settings: Settings) -> None:
        for memory in (self._routes, self._hosts):
            memory.size = settings.dns.cache_size
            memory.failed_most = min(settings.retry.schedule) / 2
        self._policy = Policy(settings)
        self._lookups = self._make_lookups(settings)

    async def _learn_route(self, domain: str) -> Learned[Route | RouteError]:
        policy = self._policy
        fixed = policy.fixed(domain) or policy.literal(domain)
        if fixed is not None:
            return Learned(fixed, _FOREVER)
        try:
            return await self._route_by_dns(policy, domain)
        except Exception as error:  # noqa: BLE001 - a fault of ours must cost one domain a delay, never a lane
            _log.exception("routing of %s failed", domain)
            return Learned(_internal(error), _TTL_FAILED, failed=True)

    async def _route_by_dns(self, policy: Policy, domain: str) -> Learned[Route | RouteError]:
        answer = await self._lookups.mx(domain)
        route = policy.by_mx(domain, answer)
        if route is not None:
            return _learned(route, answer)
        implicit = policy.implicit(domain)
        # A domain without MX records is often a misspelling. Check its addresses before a lane is created for it.
        targets = await self._targets(implicit)
        return _learned(targets if isinstance(targets, RouteError) else implicit, answer)

    async def _targets(self, route: Route) -> list[Target] | RouteError:
        policy = self._policy
        limit = policy.delivery.addresses_per_host
        ordered = order_hosts(route, self._rng)
        seen: dict[str, _Host | None] = {}
        # In batches, because a site of 20 hosts would otherwise need 40 look-ups to find 8 addresses.
        for start in range(0, len(ordered), limit):
            seen |= await self._look_up(ordered[start : start + limit])
            usable = self._usable(policy, route, seen)
            if isinstance(usable, RouteError):
                return usable
            if usable:
                return cap_targets(usable, route.port, limit)
        return _unroutable(policy, route, seen)

    def _usable(
        self, policy: Policy, route: Route, seen: dict[str, _Host | None]
    ) -> list[tuple[str, list[str]]] | RouteError:
        """Return the hosts, with usable addresses, that are preferred to this relay; an error if mail would loop."""
        usable: list[tuple[str, list[str]]] = []
        nearness = {host: n for n, group in enumerate(route.hosts) for host in group}
        own = len(route.hosts)
        for name, host in seen.items():
            if host is None:
                continue
            addresses = order_addresses(host.v6, host.v4, self._rng)
            if route.checked:
                addresses = [address for address in addresses if policy.allows(address)]
                if any(policy.ours(address, route.port, self._local) for address in addresses):
                    own = min(own, nearness[name])
            if addresses:
                usable.append((name, addresses))
        nearer = [(name, addresses) for name, addresses in usable if nearness[name] < own]
        unknown = any(nearness[name] < own and (host is None or host.failed) for name, host in seen.items())
        if usable and not nearer and not unknown:
            return RouteError(True, "5.4.6", f"mail loops: the best MX of {route.lane} is this server")
        return nearer

    async def _look_up(self, names: list[str]) -> dict[str, _Host | None]:
        """Return addresses by host name, in the given order; None for hosts whose look-up took too long."""
        known: dict[str, _Host | None] = {}
        tasks: dict[str, asyncio.Task[_Host]] = {}
        loop = asyncio.get_running_loop()
        for name in names:
            known[name] = self._without_asking(name)
            if known[name] is None:
                tasks[name] = loop.create_task(self._hosts.ask(name, self._learn_host))
        try:
            await self._wait(tasks, found=any(host is not None and (host.v6 or host.v4) for host in known.values()))
            for name, task in tasks.items():
                if task.done():
                    known[name] = task.result()
        finally:
            for task in tasks.values():
                task.cancel()
        return known

    @staticmethod
    async def _wait(tasks: dict[str, asyncio.Task[_Host]], *, found: bool) -> None:
        pending = set(tasks.values())
        while pending and not found:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            found = any(task.result().v6 or task.result().v4 for task in done)
        if pending:
            await asyncio.wait(pending, timeout=_STRAGGLERS)

    def _without_asking(self, name: str) -> _Host | None:
        if is_address(name):
            return _Host(v6=(name,)) if ":" in name else _Host(v4=(name,))
        if name == "localhost":  # RFC 6761 §6.3: must not be looked up in DNS
            usable = [address for address in _LOCALHOST if self._policy.usable(address)]
            return _Host(tuple(a for a in usable if ":" in a), tuple(a for a in usable if ":" not in a))
        return None

    async def _learn_host(self, name: str) -> Learned[_Host]:
        delivery = self._policy.delivery
        families = [family for family, used in ((Family.V6, delivery.ipv6), (Family.V4, delivery.ipv4)) if used]
        answers = await asyncio.gather(*(self._lookups.addresses(name, family) for family in families))
        found = {
            family: answer.records
            for family, answer in zip(families, answers, strict=True)
            if isinstance(answer, Found) and answer.records
        }
        failures = [answer for answer in answers if isinstance(answer, Failed)]
        ttl = min((_ttl(answer) for answer in answers), default=_TTL_FAILED)
        if found:
            return Learned(_Host(found.get(Family.V6, ()), found.get(Family.V4, ())), ttl)
        if failures:
            return Learned(_Host(failed=failures[0]), ttl, failed=True)
        absent = any(isinstance(answer, Absent | Unaskable) for answer in answers)
        return Learned(_Host(absent=absent), ttl, lasts=False)


def _unroutable(policy: Policy, route: Route, seen: dict[str, _Host | None]) -> RouteError:
    """Return why no address may be tried. If there are several reasons, the least final one counts."""
    known = [host for host in seen.values() if host is not None]
    failures = [host.failed for host in known if host.failed is not None]
    if failures or len(known) < len(seen):
        failed = failures[0] if failures else Failed("the name servers did not answer in time")
        return no_answer(f"address look-up of {route.lane}", failed)
    if not route.checked:
        return RouteError(False, "4.4.4", f"the smarthost {route.lane} has no address; check its name in the settings")
    if any(policy.prohibited(address) for host in known for address in host.v6 + host.v4):
        why = "are in delivery.prohibited_networks of this server"
        return RouteError(True, "5.4.6", f"the only addresses of {route.lane} {why}")
    if not (policy.delivery.ipv4 and policy.delivery.ipv6):
        return RouteError(False, "4.4.4", f"{route.lane} has no address of the families that this server uses")
    if route.hosts == ((route.lane,),) and all(host.absent for host in known):
        return RouteError(True, "5.1.2", f"the host {route.lane} does not exist; check the spelling")
    return RouteError(True, "5.4.4", f"no mail host of {route.lane} has an address")


def _learned(route: Route | RouteError, answer: FoundMx | Absent | Failed | Unaskable) -> Learned[Route | RouteError]:
    if isinstance(route, Route):
        return Learned(route, _ttl(answer))
    if route.permanent:
        return Learned(route, min(_ttl(answer), _TTL_NEGATIVE_MOST), lasts=False)
    return Learned(route, _TTL_LOCAL if route.failure is FailureClass.LOCAL else _TTL_FAILED, failed=True)


def _ttl(answer: Found | FoundMx | Absent | Failed | Unaskable) -> float:
    match answer:
        case Failed(_, local):
            return _TTL_LOCAL if local else _TTL_FAILED
        case Unaskable():
            return _TTL_NEGATIVE_MOST
        case Absent(ttl):
            return min(max(ttl, _TTL_LEAST), _TTL_NEGATIVE_MOST)
        case Found(_, ttl) | FoundMx(_, ttl):
            return _TTL_ZERO if ttl <= 0 else min(max(ttl, _TTL_LEAST), _TTL_MOST)


def _internal(error: Exception) -> RouteError:
    return RouteError(False, "4.3.0", f"internal fault while routing ({type(error).__name__}); it will be tried again")
