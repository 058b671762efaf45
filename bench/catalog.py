"""The benchmarks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import black_holes, deep, idle, latency, relayed, scaling, straight
from bench.relayed import Relayed
from bench.runs import Plan
from bench.traffic import Load
from bench.words import Row


@dataclass(frozen=True, slots=True)
class Context:
    """What a benchmark gets."""

    folder: Path
    """Its own, empty."""
    plan: Plan
    alone: bool = False
    """Without Postfix."""


Benchmark = Callable[[str, Context], list[Row]]

RELAYED = {
    "relayed-kept": Relayed("relayed, kept connections, 4 KiB", Load(), 5, 8, cpu=(0.5, 0.35)),
    "relayed-each": Relayed("relayed, a connection a message", Load(kept=False), 3, 5),
    "relayed-dkim": Relayed("relayed, signed with RSA-2048", Load(), 3, 4, dkim=True),
    "submission": Relayed("relayed, STARTTLS and AUTH", Load(secure=True), 3, 5),
    "submission-each": Relayed("relayed, STARTTLS and AUTH for each", Load(secure=True, kept=False), 3, 5),
    "size-1k": Relayed("relayed, 1 KiB", Load(size=1024), 3),
    "size-100k": Relayed("relayed, 100 KiB", Load(size=100 << 10), 2),
    "size-5m": Relayed("relayed, 5 MiB", Load(size=5 << 20), 1),
}


def _relayed(benchmark: Relayed, name: str, context: Context) -> list[Row]:
    return relayed.measure(name, benchmark, context.folder, context.plan, alone=context.alone)


BENCHMARKS: dict[str, Benchmark] = {name: partial(_relayed, benchmark) for name, benchmark in RELAYED.items()}
BENCHMARKS["latency"] = lambda name, context: latency.measure(name, context.folder, context.plan, alone=context.alone)
BENCHMARKS["deep-queue"] = lambda name, context: deep.measure(name, context.folder, context.plan)
BENCHMARKS["deep-throughput"] = lambda name, context: deep.throughput(name, context.folder, context.plan)
BENCHMARKS["idle"] = lambda name, context: idle.measure(name, context.folder)
BENCHMARKS["black-holes"] = lambda name, context: black_holes.measure(name, context.folder, context.plan)
BENCHMARKS["workers"] = lambda name, context: scaling.measure(name, context.folder, context.plan)
BENCHMARKS["straight"] = lambda name, context: straight.measure(name, context.folder, context.plan)
