"""Whether a client's address lies in a trusted network. Answers are remembered; the memory is bounded."""

import ipaddress
from collections.abc import Iterable

_REMEMBERED = 4096


class Networks:
    """A set of networks."""

    __slots__ = ("_known", "_v4", "_v6")

    def __init__(self, networks: Iterable[str]) -> None:
        parsed = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._v4 = [network for network in parsed if isinstance(network, ipaddress.IPv4Network)]
        self._v6 = [network for network in parsed if isinstance(network, ipaddress.IPv6Network)]
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        """Whether an IP address in text is in one of them; what is no address is in none."""
        known = self._known.get(address)
        if known is None:
            known = self._find(address)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address] = known
        return known

    def _find(self, address: str) -> bool:
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address):
            if ip.ipv4_mapped is None:
                return any(ip in network for network in self._v6)
            # A dual-stack socket shows IPv4 clients as ::ffff:192.0.2.1: the same client, the same answer.
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._v4)


def client_key(address: str) -> str:
    """What counts as one client for abuse: an IPv4 address, or an IPv6 /64 (what one subscriber gets)."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
