"""Checks of single values that need only the value: addresses, networks, names.

Each check takes the value, its path in the settings and the findings to add to. The table at the end maps the names in
the schema to the checks.
"""

import ipaddress
import pwd
from collections.abc import Callable
from typing import Final, TypeAlias

from relay_config.endpoints import is_loopback, parse_endpoint, parse_host_port, parse_nameserver, parse_network
from relay_config.names import BadNameError, check_domain, check_selector, check_stream, is_address
from relay_config.patterns import check_pattern
from relay_config.problems import Findings, KeyPath, found
from relay_config.reply_patterns import compile_reply_pattern

Check: TypeAlias = Callable[[str, KeyPath, Findings], None]

_WIDEST: Final = {4: 8, 6: 16}
"""Shortest prefix of a trusted network, by IP version: a shorter one covers much of the internet (an open relay)."""
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def _parsed_by(parse: Callable[[str], object]) -> Check:
    """A check that the value can be parsed."""

    def test(value: str, path: KeyPath, findings: Findings) -> None:
        try:
            parse(value)
        except BadNameError as error:
            findings.problem(path, found(value), str(error))

    return test


def _endpoint(value: str, path: KeyPath, findings: Findings) -> None:
    try:
        endpoint = parse_endpoint(value)
    except BadNameError as error:
        findings.problem(path, found(value), str(error))
        return
    if endpoint.port == 0:
        findings.warn(path, found(value), "port 0 lets the system choose another port at each start; name one")


def _loopback(value: str, path: KeyPath, findings: Findings) -> None:
    try:
        endpoint = parse_endpoint(value)
    except BadNameError as error:
        findings.problem(path, found(value), str(error))
        return
    if not is_loopback(endpoint.host):
        findings.problem(path, found(value), f'use an address of this machine alone, like "127.0.0.1:{endpoint.port}"')


def _trusted_network(value: str, path: KeyPath, findings: Findings) -> None:
    try:
        network = parse_network(value)
    except BadNameError as error:
        findings.problem(path, found(value), str(error))
        return
    if isinstance(network, ipaddress.IPv6Network) and network.overlaps(_MAPPED):
        findings.problem(path, found(value), "write IPv4 networks in their own form, like 10.0.0.0/8")
    elif network.prefixlen < _WIDEST[network.version]:
        remedy = f"name your own networks (/{_WIDEST[network.version]} or longer): this would make an open relay"
        findings.problem(path, found(value), remedy)
    elif network.is_global and network.num_addresses > 2**16 and network.version == 4:
        findings.warn(path, found(value), "a large public network may relay without AUTH; name smaller ones")


def _address(version: int) -> Check:
    def test(value: str, path: KeyPath, findings: Findings) -> None:
        if not is_address(value) or ipaddress.ip_address(value).version != version:
            findings.problem(path, found(value), f"write an IPv{version} address of this machine")

    return test


def _hostname(value: str, path: KeyPath, findings: Findings) -> None:
    try:
        check_domain(value)
    except BadNameError as error:
        findings.problem(path, found(value), str(error))
        return
    if "." not in value:
        findings.warn(
            path, found(value), f"many servers refuse mail from a name without a dot; use {value}.example.com"
        )


def _site(value: str, path: KeyPath, findings: Findings) -> None:
    """A pattern of MX hosts, or a smarthost with its port."""
    try:
        if ":" in value:
            parse_host_port(value)
        else:
            check_pattern(value)
    except BadNameError as error:
        findings.problem(path, found(value), str(error))


def _system_user(value: str, path: KeyPath, findings: Findings) -> None:
    try:
        entry = pwd.getpwnam(value)
    except KeyError:
        findings.problem(path, found(value), f"create the user: useradd --system --shell /usr/sbin/nologin {value}")
        return
    if entry.pw_uid == 0:
        findings.problem(path, found(value), "use another user than root")


VALUE_CHECKS: Final[dict[str, Check]] = {
    "endpoint": _endpoint,
    "loopback": _loopback,
    "trusted_networks": _trusted_network,
    "networks": _parsed_by(parse_network),
    "nameservers": _parsed_by(parse_nameserver),
    "host_port": _parsed_by(parse_host_port),
    "ipv4": _address(4),
    "ipv6": _address(6),
    "hostname": _hostname,
    "stream": _parsed_by(check_stream),
    "domain": _parsed_by(check_domain),
    "domains": _parsed_by(check_pattern),
    "sites": _site,
    "reply_pattern": _parsed_by(compile_reply_pattern),
    "selector": _parsed_by(check_selector),
    "system_user": _system_user,
}
"""Checks by their name in the schema."""
