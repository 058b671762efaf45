"""The routing rules: from settings and DNS records to an ordered list of hosts. No look-ups, clock or sockets.

Where the RFCs leave open which failures are permanent, the rules follow Postfix and Exim. Codes are from RFC 3463:

- 5.1.10 null MX: the domain accepts no mail (RFC 7505 §4.2);
- 5.1.2 the recipient's domain does not exist or is not a domain name (X.1.2, "bad destination system address");
- 5.4.4 the domain exists, but neither it nor any of its MX hosts has an address (X.4.4, "unable to route");
- 5.4.6 the mail would return to this relay, or go to a prohibited address (X.4.6, "routing loop");
- 4.4.3 the name servers failed (X.4.3);
- 4.4.4 the DNS records are invalid and may be corrected, or the settings exclude all addresses.
"""

import ipaddress
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final

from relay.delivery.failure import FailureClass
from relay.delivery.lookup import Absent, Failed, FoundMx, Unaskable
from relay.smtp.client.model import Target, TlsPolicy
from relay_config.endpoints import Network, is_unspecified, parse_endpoint, parse_host_port, parse_network
from relay_config.names import is_address
from relay_config.patterns import matches
from relay_config.schema import Route as Smarthost
from relay_config.schema import Settings

_MAX_HOSTS: Final = 20
"""Most MX hosts considered for one domain, best first (Postfix tries 5 addresses, sendmail 20 hosts)."""
_UNSPEAKABLE: Final = re.compile(r"[^A-Za-z0-9.@+_-]")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")


Manner = tuple[TlsPolicy, int, str | None, str | None]
"""How to connect: TLS policy, port, user name, password file. Mail with different values never shares a connection."""


@dataclass(slots=True, frozen=True)
class Route:
    """Where a domain's mail goes. Domains with the same set of MX hosts share a lane."""

    lane: str
    """The site: sorted MX host names joined by ","; a smarthost's or receiver's `host:port`; an address literal."""
    hosts: tuple[tuple[str, ...], ...]
    """Host names or addresses, grouped by preference, best first; sorted within a group (shuffled at each use)."""
    port: int
    tls: TlsPolicy
    smarthost: Smarthost | None = None
    """The [[route]] of the settings that gave this route; None: by DNS or sandbox."""
    checked: bool = True
    """The addresses come from DNS or a sender, so they are checked for prohibited networks and mail loops."""
    variant: str = ""
    """Distinguishes routes to the same `host:port` that differ in TLS policy or credentials."""

    @property
    def name(self) -> str:
        """The lane's name: the site, followed by `#variant` if several routes lead to the site."""
        return f"{self.lane}#{self.variant}" if self.variant else self.lane

    @property
    def manner(self) -> Manner:
        """The properties of a connection for this route; see `Manner`."""
        if self.smarthost is None:
            return self.tls, self.port, None, None
        return self.tls, self.port, self.smarthost.user, self.smarthost.password_file


@dataclass(slots=True, frozen=True)
class RouteError:
    """Why there is no route."""

    permanent: bool
    enhanced: str
    text: str
    """One readable line; says what to do if that is known."""
    failure: FailureClass = FailureClass.DNS

    def __str__(self) -> str:
        """The text recorded as the reply of the affected recipients."""
        return f"{self.enhanced} {self.text}".strip()


class Policy:
    """The routing settings, parsed once."""

    __slots__ = ("_everywhere", "_listeners", "_prohibited", "_receiver", "_smarthosts", "delivery", "hostname")

    def __init__(self, settings: Settings) -> None:
        self.hostname = settings.hostname.lower()
        self.delivery = settings.delivery
        self._prohibited: list[Network] = [parse_network(text) for text in settings.delivery.prohibited_networks]
        self._receiver = None
        if settings.sandbox.receiver is not None:
            self._receiver = _fixed(settings.sandbox.receiver, TlsPolicy.NONE, None)
        routes = [_fixed(route.relay_host, TlsPolicy(route.tls), route) for route in settings.route]
        self._smarthosts = list(zip([route.domains for route in settings.route], _told_apart(routes), strict=True))
        endpoints = [parse_endpoint(listener.address) for listener in settings.listener]
        self._listeners = {(bare(endpoint.host), endpoint.port) for endpoint in endpoints}
        self._everywhere = {endpoint.port for endpoint in endpoints if is_unspecified(endpoint.host)}

    def fixed(self, domain: str) -> Route | None:
        """Return the route that the settings prescribe for the domain; None: route by DNS."""
        if self._receiver is not None:
            return self._receiver
        for patterns, route in self._smarthosts:
            if any(matches(pattern, domain) for pattern in patterns):
                return route
        return None

    def offers(self, route: Route) -> bool:
        """Whether these settings can give this route. False if it comes from earlier settings that differ."""
        if route.checked:
            return self._receiver is None and route.manner == self.implicit("").manner
        fixed = [self._receiver] if self._receiver is not None else [route for _, route in self._smarthosts]
        return any((known.name, known.manner) == (route.name, route.manner) for known in fixed)

    def literal(self, domain: str) -> Route | RouteError | None:
        """Return the route to an address literal (RFC 5321 §4.1.3); None if the domain is a name."""
        if not domain.startswith("["):
            return None
        text = domain[1:-1]
        address = text[5:] if text[:5].lower() == "ipv6:" else text
        if not domain.endswith("]") or not is_address(address) or "%" in address:
            return RouteError(True, "5.1.2", "the address literal is not an IP address")
        return self._by_dns(domain.lower(), ((bare(address),),))

    def implicit(self, domain: str) -> Route:
        """Return the route to a domain without MX records: its own addresses (RFC 5321 §5.1)."""
        return self._by_dns(domain, ((domain,),))

    def by_mx(self, domain: str, answer: FoundMx | Absent | Failed | Unaskable) -> Route | RouteError | None:
        """Return the route by MX records; None if there are none, so that the domain itself is the host."""
        match answer:
            case Absent():
                return RouteError(True, "5.1.2", f"the domain {domain} does not exist; check the spelling")
            case Failed() as failed:
                return no_answer(f"MX look-up of {domain}", failed)
            case Unaskable(text):
                return RouteError(True, "5.1.2", f"the recipient's domain is {text}")
            case FoundMx(records, _):
                return self._by_records(domain, records) if records else None

    def _by_records(self, domain: str, records: Sequence[tuple[int, str]]) -> Route | RouteError:
        # A null MX beside other records violates RFC 7505 §3. Ignore it: the domain receives mail by the others.
        named = [(preference, host) for preference, host in records if host]
        if not named:
            return RouteError(True, "5.1.10", f"the domain {domain} accepts no mail (null MX)")
        best: dict[str, int] = {}
        for preference, host in named:
            if is_host(host) and preference < best.get(host, 1 << 16):
                best[host] = preference
        if not best:
            return RouteError(False, "4.4.4", f"none of the MX records of {domain} names a host")
        own = best.get(self.hostname)
        if own is not None:
            # RFC 5321 §5.1: hosts with our own or a higher preference value would send the mail back to us.
            best = {host: preference for host, preference in best.items() if preference < own}
            if not best:
                return RouteError(
                    True, "5.4.6", f"mail for {domain} loops: its best MX is this server, {self.hostname}"
                )
        ordered = sorted(best, key=lambda host: (best[host], host))[:_MAX_HOSTS]
        groups: dict[int, list[str]] = {}
        for host in ordered:
            groups.setdefault(best[host], []).append(host)
        return self._by_dns(",".join(sorted(ordered)), tuple(tuple(group) for group in groups.values()))

    def _by_dns(self, lane: str, hosts: tuple[tuple[str, ...], ...]) -> Route:
        return Route(lane, hosts, self.delivery.port, TlsPolicy(self.delivery.tls))

    def prohibited(self, address: str) -> bool:
        """Whether the address is in `delivery.prohibited_networks`."""
        ip = ipaddress.ip_address(bare(address))
        return any(ip in network for network in self._prohibited)

    def allows(self, address: str) -> bool:
        """Whether the relay may connect to an address that comes from DNS or a sender."""
        return self.usable(address) and not self.prohibited(address)

    def ours(self, address: str, port: int, is_local: Callable[[str], bool]) -> bool:
        """Whether a connection to this address and port would reach one of the relay's own listeners."""
        address = bare(address)
        return (address, port) in self._listeners or (port in self._everywhere and is_local(address))

    def usable(self, address: str) -> bool:
        """Whether the address's family is enabled."""
        return self.delivery.ipv6 if ":" in address else self.delivery.ipv4


def _fixed(host_port: str, tls: TlsPolicy, smarthost: Smarthost | None) -> Route:
    endpoint = parse_host_port(host_port)
    return Route(str(endpoint), ((endpoint.host,),), endpoint.port, tls, smarthost, checked=False)


def _told_apart(routes: Sequence[Route]) -> list[Route]:
    """Return the routes; those to one `host:port` get a variant if they differ in `manner`."""
    manners: dict[str, list[Manner]] = {}
    for route in routes:
        known = manners.setdefault(route.lane, [])
        if route.manner not in known:
            known.append(route.manner)
    return [replace(route, variant=_variant(route.manner, manners[route.lane])) for route in routes]


def _variant(manner: Manner, others: Sequence[Manner]) -> str:
    """Return the shortest unique label: the TLS policy, if needed with the user, if needed with a number."""
    if len(others) < 2:
        return ""
    alike = [other for other in others if other[0] is manner[0]]
    if len(alike) < 2:
        return manner[0].value
    word = _word(manner)
    same = [other for other in alike if _word(other) == word]
    return word if len(same) < 2 else f"{word}#{same.index(manner) + 1}"


def _word(manner: Manner) -> str:
    tls, _, user, _ = manner
    return f"{tls.value}-{_UNSPEAKABLE.sub('_', user)[:40] if user else 'anonymous'}"


def bare(address: str) -> str:
    """Return the address in canonical form for comparisons; an IPv4-mapped IPv6 address becomes IPv4."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def no_answer(question: str, failed: Failed) -> RouteError:
    """Return the error for a failed DNS look-up, whether the name servers or this machine caused it."""
    return RouteError(
        False, "4.4.3", f"{question} failed: {failed.text}", FailureClass.LOCAL if failed.local else FailureClass.DNS
    )


def is_host(name: str) -> bool:
    """Whether the lower-case name can be a host name (RFC 1123 §2.1, also underscores) and is not an IP address."""
    return _HOST.match(name) is not None and not name.rpartition(".")[2].isdecimal()


def order_hosts(route: Route, rng: random.Random) -> list[str]:
    """Return all hosts in the order to try: by preference, shuffled among equals (RFC 5321 §5.1)."""
    ordered: list[str] = []
    for group in route.hosts:
        ordered += rng.sample(group, len(group))
    return ordered


def order_addresses(v6: Iterable[str], v4: Iterable[str], rng: random.Random) -> list[str]:
    """Return one host's addresses, alternating families, IPv6 first: a broken family must not use up all tries."""
    six, four = list(v6), list(v4)
    rng.shuffle(six)
    rng.shuffle(four)
    return [address for pair in zip_longest(six, four) for address in pair if address is not None]


def cap_targets(hosts: Sequence[tuple[str, Sequence[str]]], port: int, limit: int) -> list[Target]:
    """Return at most `limit` addresses; with several hosts, none contributes more than half of the limit."""
    share = limit if len(hosts) == 1 else max(1, limit // 2)
    targets = [Target(host, address, port) for host, addresses in hosts for address in addresses[:share]]
    return targets[:limit]
