"""Runs of a load through servers, in turn: A, B, A, B, …, each timed to the last delivery and checked for losses."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench import tree
from bench.keys import Secrets
from bench.processes import until
from bench.traffic import Load, Sink, finish, own_source, source
from bench.words import BenchError, Sample

_WARM_UP = 400
_STUCK = 120.0
"""Seconds without any delivery after which a run counts as stuck."""
_QUIET = 0.03
"""CPU, in cores, below which a server is at rest."""


class Server(Protocol):
    """A server under test."""

    name: str
    port: int

    def roots(self) -> list[int]:
        """The processes on top of all of its own."""
        ...

    def waiting(self) -> int:
        """Recipients in its queue that wait for delivery."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    runs: int = 5
    seconds: float = 8.0
    """About how long a run takes: the number of messages is chosen by the warm-up."""
    messages: int = 0
    """Messages of a run, the same for all; 0: chosen by `seconds`."""
    sessions: int = 0
    """Connections of the load generator; 0: as each load says."""
    depth: int = 1_000_000
    """Recipients in a deep queue."""


def run_once(server: Server, sink: Sink, load: Load, count: int, secrets: Secrets | None = None) -> Sample:
    """Submit messages and wait for the last to reach the sink. Raises `BenchError` if any is lost or comes twice."""
    waiting = server.waiting()
    before, cpu = sink.count(), tree.cpu_seconds(*server.roots())
    process = own_source(server.port, load, count, secrets) if load.secure else None
    began = time.perf_counter()
    process = process or source(server.port, load, count)
    finish(process, 60 + count)
    ended = _drained(server, sink, before + count)
    settle(server)
    if (arrived := sink.count() - before) != count:
        raise BenchError(f"{server.name}: {count} messages submitted, {arrived} arrived")
    if (left := server.waiting()) != waiting:
        raise BenchError(f"{server.name}: {left - waiting} more wait in the queue than before, but all arrived")
    return Sample(count, ended - began, tree.cpu_seconds(*server.roots()) - cpu)


def _drained(server: Server, sink: Sink, wanted: int) -> float:
    """When the sink had all."""
    seen, at = sink.count(), time.perf_counter()
    while seen < wanted:
        time.sleep(0.005)
        now, count = time.perf_counter(), sink.count()
        if count != seen:
            seen, at = count, now
        elif now - at > _STUCK:
            raise BenchError(f"{server.name}: {wanted - seen} messages did not arrive; {server.waiting()} in its queue")
    return time.perf_counter()


def settle(server: Server, least: float = 0.5) -> None:
    """Wait until a server is at rest, so that its after-work is counted to it and not to the next."""
    time.sleep(least / 2)

    def quiet() -> bool:
        before = tree.cpu_seconds(*server.roots())
        time.sleep(least / 2)
        return tree.cpu_seconds(*server.roots()) - before <= _QUIET * least

    until(quiet, 60, f"{server.name} comes to rest")


def calibrated(server: Server, sink: Sink, load: Load, plan: Plan, secrets: Secrets | None) -> int:
    """Warm a server up, and say how many messages make a run."""
    warm_up = max(20, min(_WARM_UP, int(100e6 / load.size)))
    rate = run_once(server, sink, load, warm_up, secrets).rate
    if plan.messages:
        return plan.messages
    rate = run_once(server, sink, load, max(warm_up, int(rate)), secrets).rate
    return max(warm_up, int(rate * plan.seconds))


def in_turn(
    servers: Sequence[Server],
    sink: Sink,
    load: Load,
    plan: Plan,
    secrets: Secrets | None = None,
    tell: Callable[[str], None] = print,
) -> list[list[Sample]]:
    """For each server its samples, taken in turn."""
    if plan.sessions:
        load = replace(load, sessions=plan.sessions)
    counts = [calibrated(server, sink, load, plan, secrets) for server in servers]
    samples: list[list[Sample]] = [[] for _ in servers]
    for number in range(plan.runs):
        for server, count, mine in zip(servers, counts, samples, strict=True):
            sample = run_once(server, sink, load, count, secrets)
            mine.append(sample)
            tell(
                f"  run {number + 1} {server.name:8} {sample.rate:8.1f} messages/s, {sample.cpu_each:6.3f} ms CPU each "
                f"({sample.messages} in {sample.seconds:.2f} s)"
            )
    return samples
