"""Ten thousand clients that are connected to one worker and say nothing: are they held, and at what cost."""

import contextlib
import socket
from pathlib import Path

from bench import tree
from bench.ours import Relay, RelayOptions, the_route
from bench.processes import free_port
from bench.runs import settle
from bench.words import BenchError, Row, Target

_COUNT = 10_000
_ADDRESSES = 200
_LIMITS = f"""
[limits]
connections = {_COUNT + 1000}
connections_per_address = {_COUNT}
"""


def measure(name: str, folder: Path) -> list[Row]:
    """Two rows: how many were held, and memory for each."""
    relay = Relay(folder / "relay", RelayOptions(workers=1, extra=the_route(free_port()) + _LIMITS))
    with relay.serving(), contextlib.ExitStack() as stack:
        settle(relay)
        before = tree.resident(*relay.roots())
        clients = [stack.enter_context(_client(relay.port, number)) for number in range(_COUNT)]
        settle(relay)
        each = (tree.resident(*relay.roots()) - before) / _COUNT / 1000
        held = sum(_ask(client, b"NOOP\r\n").startswith(b"250") for client in clients)
    print(f"  {held} held, {each:.1f} kB each")
    return [
        Row(name, "idle connections held by one process", "", [held], target=Target("value", _COUNT)),
        Row(name, "memory of an idle connection", "kB", [each], target=Target("value", 20, at_least=False)),
    ]


def _client(port: int, number: int) -> socket.socket:
    """A client that has said EHLO. Many addresses, for there are not that many ports to one."""
    source = (f"127.1.0.{1 + number % _ADDRESSES}", 0)
    sock = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=source)
    greeting = sock.recv(512)
    reply = _ask(sock, b"EHLO client.example.com\r\n")
    if not (greeting.startswith(b"220") and reply.startswith(b"250")):
        raise BenchError(f"connection {number + 1}: {greeting!r}, {reply!r}")
    return sock


def _ask(sock: socket.socket, command: bytes) -> bytes:
    sock.sendall(command)
    return sock.recv(2048)
