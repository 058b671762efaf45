"""Ports for servers that are started by number: by settings, by a command line, or again after a stop.

A port that is looked up and let go may be taken before the server binds it: by another test process that looks one up,
or by any outgoing connection. So it stays bound here, by a socket that does not listen. The kernel then gives it to
nobody who asks for any port, while a server that asks for this one by number, with SO_REUSEADDR as servers do, gets it
(Linux, net/ipv4/inet_connection_sock.c, `inet_csk_get_port`).
"""

import atexit
import contextlib
import socket
from collections import deque

_KEPT = 300
"""Ports that are kept: the latest ones. Earlier ones belong to tests that have ended; each costs a descriptor."""

_keepers: deque[socket.socket] = deque()


def free_port() -> int:
    """A loopback port that nobody has, and that nobody gets but by its number."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", 0))
    _keepers.append(keeper)
    if len(_keepers) > _KEPT:
        _keepers.popleft().close()
    port: int = keeper.getsockname()[1]
    return port


@atexit.register
def _close() -> None:
    with contextlib.suppress(IndexError):
        while True:
            _keepers.popleft().close()
