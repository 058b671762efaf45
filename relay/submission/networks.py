"""Checks whether a client's address is in a trusted network. Results are cached; the cache is bounded."""

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
        """Whether an IP address, as text, is in one of the networks; invalid addresses match no network."""
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
            # A dual-stack socket reports IPv4 clients as ::ffff:192.0.2.1; they are treated as IPv4.
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._v4)
