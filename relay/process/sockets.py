"""Listening sockets: bound once by the supervisor, before it drops privileges, and inherited by the workers.

Each worker has its own socket per listener (SO_REUSEPORT), and the kernel spreads connections over them. The supervisor
keeps them open, so connections made while a worker restarts wait instead of being refused.
"""

import contextlib
import errno
import socket
from pathlib import Path

from relay.process.ports import listening, users
from relay_config.endpoints import Endpoint, parse_endpoint
from relay_config.schema import Listener, Settings

_BACKLOG = 1024
_UNPRIVILEGED_FROM = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


class BindError(Exception):
    """The relay cannot listen on an address; the text says which, why and what to do."""

    def __init__(self, address: str, error: OSError) -> None:
        self.address = address
        self.why, self.remedy = _explained(parse_endpoint(address), error)
        super().__init__(f"cannot listen on {address}: {self.why}; {self.remedy}")


def bind(settings: Settings, workers: int) -> list[list[tuple[Listener, socket.socket]]]:
    """Return for each worker its listeners with their sockets. Raises `BindError`."""
    for listener in settings.listener:
        probe(listener.address)
    return [[(listener, bind_one(listener.address)) for listener in settings.listener] for _ in range(workers)]


def bind_one(address: str) -> socket.socket:
    """Open one listening socket. Raises `BindError`."""
    try:
        with _open(parse_endpoint(address)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(parse_endpoint(address))
            sock.listen(_BACKLOG)
            sock.setblocking(False)
            return socket.socket(fileno=sock.detach())
    except OSError as error:
        raise BindError(address, error) from error


def probe(address: str) -> None:
    """Raise `BindError` if the relay cannot listen on the address. Leaves no socket open.

    Sockets with SO_REUSEPORT could share the port with another relay of the same user without an error, and each relay
    would get a part of the other's mail. So the test socket is opened without it.
    """
    endpoint = parse_endpoint(address)
    try:
        with _open(endpoint) as sock:
            sock.bind(endpoint)
    except OSError as error:
        raise BindError(address, error) from error


def _open(endpoint: Endpoint) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sock.family == socket.AF_INET6:
        # Each listener has one address family: "[::]:25" is IPv6 only, "0.0.0.0:25" is IPv4.
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _explained(endpoint: Endpoint, error: OSError) -> tuple[str, str]:
    """Return why the relay cannot listen on the address, and what to do."""
    match error.errno:
        case errno.EADDRINUSE:
            names = ", ".join(f"{user.name} (process {user.pid})" for user in users(listening(endpoint))[:3])
            return (
                f"the port is in use by {names or 'another program'}",
                "stop it, or use another port (see `ss -ltnp`)",
            )
        case errno.EACCES | errno.EPERM:
            low = f"ports below {_unprivileged_from()} need root or CAP_NET_BIND_SERVICE"
            return f"permission denied: {low}", "set `user` and start as root, or grant it (AmbientCapabilities=)"
        case errno.EADDRNOTAVAIL:
            return "this machine does not have the address", "use one that `ip address` shows, or 0.0.0.0 for all"
        case errno.EAFNOSUPPORT:
            return "this machine has no IPv6", "use an IPv4 address"
        case _:
            return error.strerror or str(error), "see to it, or use another address"


def _unprivileged_from() -> int:
    """Return the first port that unprivileged users may listen on (ip(7))."""
    with contextlib.suppress(OSError, ValueError):
        return int(_UNPRIVILEGED_FROM.read_text())
    return 1024
