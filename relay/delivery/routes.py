"""The rules of routing: from settings and DNS records to hosts in order. Pure: no look-ups, no clock, no sockets.

Which failure is permanent follows Postfix and Exim where the RFCs leave it open; codes are RFC 3463's:

- 5.1.10 null MX: the domain takes no mail (RFC 7505 §4.2);
- 5.1.2 the recipient's domain does not exist or is no domain name (X.1.2, "bad destination system address");
- 5.4.4 the domain exists, but neither it nor any of its MX hosts has an address (X.4.4, "unable to route");
- 5.4.6 the mail would come back to us, or to an address where it must not go (X.4.6, "routing loop");
- 4.4.3 the name servers failed us (X.4.3), 4.4.4 DNS says nonsense that may be mended, or our settings exclude
  what there is.
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
"""MX hosts considered for one domain, best first (Postfix tries 5 addresses, sendmail 20 hosts)."""
_UNSPEAKABLE: Final = re.compile(r"[^A-Za-z0-9.@+_-]")
_HOST: Final = re.compile(r"(?=.{1,253}\Z)(?:(?!-)[a-z0-9_-]{1,63}(?<!-)\.)*(?!-)[a-z0-9_-]{1,63}(?<!-)\Z")


Manner = tuple[TlsPolicy, int, str | None, str | None]
"""How to connect: TLS policy, port, user name, password file. Mail of two manners never shares a connection."""


@dataclass(slots=True, frozen=True)
class Route:
    """Where a domain's mail goes. Equal MX sets give equal lanes, whatever the domain."""

    lane: str
    """The site: sorted MX host names joined by ","; a smarthost's or receiver's `host:port`; an address literal."""
    hosts: tuple[tuple[str, ...], ...]
    """Host names or addresses, grouped by preference, best first; sorted within a group (shuffled at each use)."""
    port: int
    tls: TlsPolicy
    smarthost: Smarthost | None = None
    """The [[route]] that sends it here."""
    checked: bool = True
    """Addresses come from strangers: prohibited networks and loops to ourselves are looked for."""
    variant: str = ""
    """Tells this route from others to the same `host:port` with another TLS policy or other credentials."""

    @property
    def name(self) -> str:
        """The lane's name: the site, and `#variant` where several routes share it."""
        return f"{self.lane}#{self.variant}" if self.variant else self.lane

    @property
    def manner(self) -> Manner:
        """What makes a connection for this route differ from others to the same host."""
        if self.smarthost is None:
            return self.tls, self.port, None, None
        return self.tls, self.port, self.smarthost.user, self.smarthost.password_file


@dataclass(slots=True, frozen=True)
class RouteError:
    """Why there is no way."""

    permanent: bool
    enhanced: str
    text: str
    """One printable line for people; says what to do where that is known."""
    failure: FailureClass = FailureClass.DNS

    def __str__(self) -> str:
        """As people read it: in the reply of recipients that wait because of it."""
        return f"{self.enhanced} {self.text}".strip()


class Policy:
    """What the settings say of routing, read once."""

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
        """The route that the settings prescribe for the domain, if they do."""
        if self._receiver is not None:
            return self._receiver
        for patterns, route in self._smarthosts:
            if any(matches(pattern, domain) for pattern in patterns):
                return route
        return None

    def offers(self, route: Route) -> bool:
        """Whether these settings may give this route: False for one of earlier settings that now differ."""
        if route.checked:
            return self._receiver is None and route.manner == self.implicit("").manner
        fixed = [self._receiver] if self._receiver is not None else [route for _, route in self._smarthosts]
        return any((known.name, known.manner) == (route.name, route.manner) for known in fixed)

    def literal(self, domain: str) -> Route | RouteError | None:
        """The route to an address literal (RFC 5321 §4.1.3); None when the domain is a name."""
        if not domain.startswith("["):
            return None
        text = domain[1:-1]
        address = text[5:] if text[:5].lower() == "ipv6:" else text
        if not domain.endswith("]") or not is_address(address) or "%" in address:
            return RouteError(True, "5.1.2", "the address literal is not an IP address")
        return self._by_dns(domain.lower(), ((bare(address),),))

    def implicit(self, domain: str) -> Route:
        """The route to a domain without MX records: its own addresses (RFC 5321 §5.1)."""
        return self._by_dns(domain, ((domain,),))

    def by_mx(self, domain: str, answer: FoundMx | Absent | Failed | Unaskable) -> Route | RouteError | None:
        """The route that the MX records give; None when there are none and the domain itself is the host."""
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
        # A null MX beside others breaks RFC 7505 §3; the others are what the domain lives on.
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
            # RFC 5321 §5.1: whoever is as far from the goal as we are, or farther, would send it back to us.
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
        """Whether mail from MX look-ups must not go to the address."""
        ip = ipaddress.ip_address(bare(address))
        return any(ip in network for network in self._prohibited)

    def allows(self, address: str) -> bool:
        """Whether an address that DNS or a sender gave may be connected to."""
        return self.usable(address) and not self.prohibited(address)

    def ours(self, address: str, port: int, is_local: Callable[[str], bool]) -> bool:
        """Whether a connection there would reach one of our own listeners."""
        address = bare(address)
        return (address, port) in self._listeners or (port in self._everywhere and is_local(address))

    def usable(self, address: str) -> bool:
        """Whether the address's family is switched on."""
        return self.delivery.ipv6 if ":" in address else self.delivery.ipv4


def _fixed(host_port: str, tls: TlsPolicy, smarthost: Smarthost | None) -> Route:
    endpoint = parse_host_port(host_port)
    return Route(str(endpoint), ((endpoint.host,),), endpoint.port, tls, smarthost, checked=False)


def _told_apart(routes: Sequence[Route]) -> list[Route]:
    """The routes with a variant where routes to one `host:port` differ in the manner of connecting."""
    manners: dict[str, list[Manner]] = {}
    for route in routes:
        known = manners.setdefault(route.lane, [])
        if route.manner not in known:
            known.append(route.manner)
    return [replace(route, variant=_variant(route.manner, manners[route.lane])) for route in routes]


def _variant(manner: Manner, others: Sequence[Manner]) -> str:
    """A short word for a manner among several: the TLS policy, the user where that is not enough, a number."""
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
    """The address in its one canonical form, an IPv4 address out of its IPv6 clothes: so that it can be compared."""
    ip = ipaddress.ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def no_answer(question: str, failed: Failed) -> RouteError:
    """Nothing was learned from DNS: the name servers' fault, or our own."""
    return RouteError(
        False, "4.4.3", f"{question} failed: {failed.text}", FailureClass.LOCAL if failed.local else FailureClass.DNS
    )


def is_host(name: str) -> bool:
    """Whether the name (lower case) can be a host: RFC 1123 §2.1 and underscores, and no IP address in disguise."""
    return _HOST.match(name) is not None and not name.rpartition(".")[2].isdecimal()


def order_hosts(route: Route, rng: random.Random) -> list[str]:
    """All hosts in the order to be tried: by preference, equal ones shuffled (RFC 5321 §5.1)."""
    ordered: list[str] = []
    for group in route.hosts:
        ordered += rng.sample(group, len(group))
    return ordered


def order_addresses(v6: Iterable[str], v4: Iterable[str], rng: random.Random) -> list[str]:
    """One host's addresses: families in turn, IPv6 first, so that a family that is down costs one try, not all."""
    six, four = list(v6), list(v4)
    rng.shuffle(six)
    rng.shuffle(four)
    return [address for pair in zip_longest(six, four) for address in pair if address is not None]


def cap_targets(hosts: Sequence[tuple[str, Sequence[str]]], port: int, limit: int) -> list[Target]:
    """At most `limit` addresses over all hosts; no host takes more than half of them while there are others."""
    share = limit if len(hosts) == 1 else max(1, limit // 2)
    targets = [Target(host, address, port) for host, addresses in hosts for address in addresses[:share]]
    return targets[:limit]
