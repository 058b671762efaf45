"""DNS look-ups with dnspython. Maps every exception of dnspython to a value of `relay.delivery.lookup`.

This is a stub resolver: it relies on the configured name servers to follow aliases. For each query dnspython uses a new
socket (so a random port) and a random ID, and it drops answers whose ID, source or question does not match (RFC 5452
§9). Search lists are never used: mail for `example` must not go to `example.corp.internal`.
"""

import asyncio
import os
import socket
import time
from itertools import islice
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from relay.delivery.lookup import Absent, Failed, Family, Found, FoundMx, Lookups, Unaskable
from relay_config.endpoints import parse_nameserver
from relay_config.schema import Dns

_MAX_ALIASES: Final = 8
"""Most CNAMEs followed for one name. More are a configuration error of the domain (unbound allows 11, BIND 16)."""
_MAX_ADDRESSES: Final = 64
"""Most addresses kept per host and family. More are never tried, and a TCP answer can hold 4,000 of them."""
_EDNS_PAYLOAD: Final = 1232
"""Bytes of a UDP answer that pass everywhere unfragmented (DNS flag day 2020). Larger answers use TCP."""
_CONCURRENT: Final = 256
"""Most queries in progress per worker. Each uses a socket, so without a limit a burst could exhaust descriptors."""


class DnsResolver(Lookups):
    """Queries `settings.nameservers`, or the system's name servers if there are none."""

    def __init__(self, settings: Dns) -> None:
        self._settings = settings
        self._resolver = _resolver(settings)
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def mx(self, name: str) -> FoundMx | Absent | Failed | Unaskable:
        """Look up the name's MX records."""
        answer = await self._ask(name, dns.rdatatype.MX)
        if not isinstance(answer, dns.resolver.Answer):
            return answer
        return FoundMx(tuple((mx.preference, _text(mx.exchange)) for mx in answer), _ttl(answer))

    async def addresses(self, name: str, family: Family) -> Found | Absent | Failed | Unaskable:
        """Look up the name's addresses of one family."""
        answer = await self._ask(name, dns.rdatatype.from_text(family.value))
        if not isinstance(answer, dns.resolver.Answer):
            return answer
        return Found(tuple(record.address for record in islice(answer, _MAX_ADDRESSES)), _ttl(answer))

    async def _ask(self, name: str, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer | Absent | Failed | Unaskable:
        try:
            asked = dns.name.Name([*(label.encode("ascii") for label in name.split(".")), b""])
        except (dns.exception.DNSException, UnicodeError):
            return Unaskable("not a domain name")
        # Retried at each look-up, because the network and resolv.conf may become available after the relay starts.
        resolver = self._resolver = self._resolver or _resolver(self._settings)
        if resolver is None:
            return Failed("no name server is configured on this machine", local=True)
        try:
            async with self._slots:
                answer = await _resolved(resolver, asked, kind)
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            return _mapped(error)
        if len(answer.chaining_result.cnames) > _MAX_ALIASES:
            return Failed(f"more than {_MAX_ALIASES} aliases (CNAME) follow each other")
        return answer


async def _resolved(
    resolver: dns.asyncresolver.Resolver, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.resolver.Answer:
    """Query once, or twice if the wall clock jumped during the first query. Raises dnspython's exceptions.

    dnspython measures its time limit with the wall clock, so a jump of the clock looks like a time-out.
    """
    began = time.monotonic()
    try:
        return await resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
    except dns.resolver.LifetimeTimeout:
        if time.monotonic() - began > resolver.lifetime / 2:
            raise
    return await resolver.resolve(name, kind, search=False, raise_on_no_answer=False)


def _mapped(error: Exception) -> Absent | Failed:
    """Map an exception of dnspython or of the socket."""
    if isinstance(error, dns.resolver.NXDOMAIN):
        return Absent(_negative_ttl(error))
    if isinstance(error, dns.resolver.NoNameservers):
        return _unanswered(error)
    if isinstance(error, dns.exception.Timeout):
        return Failed("the name servers did not answer in time")
    return Failed(f"the look-up failed ({type(error).__name__})", local=isinstance(error, OSError))


def is_local(address: str) -> bool:
    """Whether the address is one of this machine's: then the kernel also uses it as the source address.

    Connecting a UDP socket sends nothing. Asking the kernel for the route this way needs no list of interfaces.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:
        return False


def _resolver(settings: Dns) -> dns.asyncresolver.Resolver | None:
    """Return a resolver; None if the machine has no name server configured, and then every look-up fails."""
    try:
        resolver = dns.asyncresolver.Resolver(configure=not settings.nameservers)
    except dns.exception.DNSException:
        return None
    if settings.nameservers:
        resolver.nameservers = [
            dns.nameserver.Do53Nameserver(endpoint.host, endpoint.port)
            for endpoint in map(parse_nameserver, settings.nameservers)
        ]
    resolver.lifetime = settings.timeout
    # Leaves time to repeat a query whose datagram was lost: three to four tries within `lifetime`.
    resolver.timeout = min(5.0, settings.timeout / 3)
    resolver.search = []
    resolver.use_edns(0, 0, _EDNS_PAYLOAD)
    resolver.cache = None
    return resolver


def _text(name: dns.name.Name) -> str:
    """Return the name in lower case without the final dot. Unusual bytes are escaped, so it fails `is_host`."""
    return "" if name == dns.name.root else name.to_text(omit_final_dot=True).lower()


def _ttl(answer: dns.resolver.Answer) -> float:
    return float(answer.chaining_result.minimum_ttl)


def _negative_ttl(error: dns.resolver.NXDOMAIN) -> float:
    responses: dict[Any, Any] = error.kwargs.get("responses") or {}
    return min((float(response.resolve_chaining().minimum_ttl) for response in responses.values()), default=0.0)


def _unanswered(error: dns.resolver.NoNameservers) -> Failed:
    """Return the last name server's error (an rcode as text), or a local failure if no query could be sent."""
    errors: list[Any] = [each[3] for each in error.kwargs.get("errors") or []]
    if not errors:
        return Failed("no name server answered")
    ours = [each for each in errors if isinstance(each, OSError)]
    if len(ours) == len(errors):
        why = os.strerror(ours[-1].errno).lower() if ours[-1].errno else type(ours[-1]).__name__
        return Failed(f"the name server could not be asked: {why}", local=True)
    last = errors[-1]
    return Failed(f"name server answered {last}" if isinstance(last, str) else f"bad answer ({type(last).__name__})")
