"""Hosts, ports and networks in words: "127.0.0.1:2525", "[::1]:25", "smtp.example.net:587", "10.0.0.0/8".

Only ASCII digits are accepted; the messages of `BadNameError` say what to write instead.
"""

import ipaddress
import re
from typing import Final, NamedTuple, TypeAlias

from relay_config.names import BadNameError, check_domain, is_address

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_WITH_PORT: Final = re.compile(r"(?:\[(?P<bracketed>[^\[\]]*)\]|(?P<plain>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_HIGHEST_PORT: Final = 65_535
DNS_PORT: Final = 53


class Endpoint(NamedTuple):
    """The address to which a socket binds or connects."""

    host: str
    """An IP address without brackets or, if names are allowed, a host name in lower case."""
    port: int
    """0 to 65535; 0 lets the system choose."""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """Parse an IP address and port: "127.0.0.1:2525", "[::1]:2525". Raises `BadNameError`."""
    host, port = _split(text, 'write an IP address and a port, like "0.0.0.0:587" or "[::]:587"')
    if not is_address(host):
        raise BadNameError('write an IP address, not a name, like "0.0.0.0:587"')
    return Endpoint(host, port)


def parse_host_port(text: str, default_port: int | None = None) -> Endpoint:
    """Parse a host name or IP address and a port: "smtp.example.net:587". Raises `BadNameError`.

    The port may be missing if `default_port` is given.
    """
    if default_port is not None and not re.search(r":[0-9]*\Z", text.rpartition("]")[2]):
        text = f"{text}:{default_port}"
    host, port = _split(text, 'write a host and a port, like "smtp.example.net:587" or "[2001:db8::1]:25"')
    if port == 0:
        raise BadNameError("use a port from 1 to 65535")
    if not is_address(host):
        check_domain(host, underscores=True)
    return Endpoint(host.lower(), port)


def parse_nameserver(text: str) -> Endpoint:
    """Parse a resolver: "127.0.0.1", "::1", "127.0.0.1:5353", "[::1]:5353". Raises `BadNameError`."""
    if is_address(text):
        return Endpoint(text, DNS_PORT)
    endpoint = parse_endpoint(text)
    if endpoint.port == 0:
        raise BadNameError("use a port from 1 to 65535")
    return endpoint


def parse_network(text: str) -> Network:
    """Parse a network: "10.0.0.0/8", "2001:db8::/32"; a single address is a network of one. Raises `BadNameError`."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadNameError('write a network like "10.0.0.0/8" or "2001:db8::/32", or an address') from None
    raise BadNameError(f'write "{meant}" for that network, or "{text.partition("/")[0]}" for the address alone')


def is_loopback(host: str) -> bool:
    """Whether the address refers to this machine itself (127.0.0.0/8, ::1)."""
    return is_address(host) and ipaddress.ip_address(host).is_loopback


def is_unspecified(host: str) -> bool:
    """Whether the address means all interfaces (0.0.0.0, ::)."""
    return is_address(host) and ipaddress.ip_address(host).is_unspecified


def _split(text: str, remedy: str) -> tuple[str, int]:
    match = _WITH_PORT.fullmatch(text)
    if match is None:
        raise BadNameError(remedy)
    bracketed = match["bracketed"]
    host = match["plain"] if bracketed is None else bracketed
    # Brackets are for IPv6 only (RFC 3986 §3.2.2).
    if not host or (bracketed is not None and ":" not in host):
        raise BadNameError(remedy)
    port = int(match["port"])
    if port > _HIGHEST_PORT:
        raise BadNameError("use a port of at most 65535")
    return host, port
