"""Listening sockets: bound once by the supervisor, before it gives up privileges, and inherited by the workers.

Each worker has a socket of its own per listener (SO_REUSEPORT), among which the kernel spreads connections. The
supervisor keeps them open, so connections made while a worker is being restarted wait instead of being refused.
"""

import socket

from relay_config.endpoints import parse_endpoint
from relay_config.schema import Listener, Settings

_BACKLOG = 1024


class BindError(Exception):
    """A listener's address can't be had; the text says which and why."""


def bind(settings: Settings, workers: int) -> list[list[tuple[Listener, socket.socket]]]:
    """For each worker its listeners with their sockets."""
    return [[(listener, _bind(listener.address)) for listener in settings.listener] for _ in range(workers)]


def _bind(address: str) -> socket.socket:
    host, port = parse_endpoint(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # One meaning per listener: "[::]:25" is IPv6 alone, "0.0.0.0:25" is IPv4.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise BindError(f"cannot listen on {address}: {error.strerror}{_remedy(error, port)}") from error
    return sock


def _remedy(error: OSError, port: int) -> str:
    if isinstance(error, PermissionError) and port < 1024:
        return '; ports below 1024 need root (set `user = "relay"` and start as root) or CAP_NET_BIND_SERVICE'
    if error.errno == 98:
        return "; another program has that port (see `ss -ltnp`)"
    return ""
