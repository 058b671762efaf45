"""A thousand destinations, a hundred of them dead: how much slower the others get their mail.

Each domain has an MX host of its own. The others' all lead to one sink. Those of the hundred lead to a second sink, or
to black holes: sockets that listen with a full backlog, whose SYNs the kernel drops, so that connecting takes until the
relay's patience ends. What is timed is the same in both cases: until the others have all of theirs.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from bench.ours import Relay, RelayOptions
from bench.processes import free_port, until
from bench.runs import Plan
from bench.traffic import Load, Sink, finish, own_source, sink
from bench.words import Row, Target
from tests.support.dns import MiniDns, Zone, dns_in_thread

_DOMAINS = 1000
_DEAD = 100
_EACH = 10
"""Messages for each domain."""
_OTHERS, _HEALTHY = "127.0.2.1", "127.0.4.1"
_PATIENCE = 300.0


def measure(name: str, folder: Path, plan: Plan) -> list[Row]:
    """One row: rates of the others with black holes, compared with none."""
    port = free_port()
    domains = folder / "domains"
    domains.write_text("\n".join(f"d{n}.test" for n in range(_DOMAINS)))
    rates: dict[str, list[float]] = {"dead": [], "healthy": []}
    with (
        sink(folder, _OTHERS, port, "others") as others,
        sink(folder, _HEALTHY, port, "healthy") as healthy,
        _black_holes(port) as holes,
        dns_in_thread() as dns,
    ):
        for number in range(plan.runs):
            for kind, addresses in (("dead", holes), ("healthy", [_HEALTHY])):
                dns.zones.clear()
                dns.zones.update(_zones(addresses))
                before = healthy.count()
                rate = _run(folder / f"{kind}-{number}", port, dns, others, domains, plan)
                rates[kind].append(rate)
                print(f"  run {number + 1} {kind:8} {rate:8.1f} messages/s; {healthy.count() - before} to the hundred")
    what = f"the others of {_DOMAINS} destinations, {_DEAD} dead"
    return [Row(name, what, "messages/s", rates["dead"], rates["healthy"], "none dead", Target("ratio", 0.95))]


def _run(folder: Path, port: int, dns: MiniDns, others: Sink, domains: Path, plan: Plan) -> float:
    """Messages per second to those that are never dead. Each run has a new relay: nothing is known of any host."""
    settings = f"""
[dns]
nameservers = ["{dns.address}"]

[delivery]
port = {port}
ipv6 = false
prohibited_networks = []
"""
    each = max(1, plan.messages // _DOMAINS) if plan.messages else _EACH
    relay = Relay(folder, RelayOptions(extra=settings))
    with relay.serving():
        wanted = others.count() + each * (_DOMAINS - _DEAD)
        process = own_source(relay.port, Load(), each * _DOMAINS, domains=domains)
        began = time.perf_counter()
        finish(process, _PATIENCE)
        until(lambda: others.count() >= wanted, _PATIENCE, "the others have their mail")
        return each * (_DOMAINS - _DEAD) / (time.perf_counter() - began)


def _zones(addresses: list[str]) -> dict[str, Zone]:
    zones: dict[str, Zone] = {}
    for n in range(_DOMAINS):
        # Every tenth, so that they are met all the time.
        dead = n % (_DOMAINS // _DEAD) == 0
        zones[f"d{n}.test"] = {"MX": [(10, f"mx.d{n}.test")]}
        zones[f"mx.d{n}.test"] = {"A": [addresses[n // 10 % len(addresses)] if dead else _OTHERS]}
    return zones


@contextlib.contextmanager
def _black_holes(port: int) -> Iterator[list[str]]:
    """Addresses at which connecting to the port is never answered."""
    with contextlib.ExitStack() as stack:
        addresses = [f"127.0.3.{n + 1}" for n in range(_DEAD)]
        for address in addresses:
            listener = stack.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen(0)
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex((address, port))
        yield addresses
