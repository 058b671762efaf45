"""The load generator straight into the sink: how much of a result is theirs, for they share the machine's cores."""

import dataclasses
import time
from functools import partial
from pathlib import Path

from bench.processes import until
from bench.runs import Plan
from bench.traffic import Load, Sink, finish, sink, source
from bench.words import Row

_ROWS = {"kept connections": Load(), "a connection a message": Load(kept=False)}
_WARM_UP = 2000


def measure(name: str, folder: Path, plan: Plan) -> list[Row]:
    """Two rows without a target."""
    rows = []
    with sink(folder) as drain:
        for what, load in _ROWS.items():
            used = dataclasses.replace(load, sessions=plan.sessions or load.sessions)
            count, rates = plan.messages or _WARM_UP, []
            for _ in range(plan.runs):
                before, began = drain.count(), time.perf_counter()
                finish(source(drain.port, used, count), 60 + count)
                until(partial(_has, drain, before + count), 30, "the sink has all")
                rates.append(count / (time.perf_counter() - began))
                count = plan.messages or int(rates[-1] * plan.seconds / 2)
            rows.append(Row(name, f"no server between: {what}", "messages/s", rates))
    return rows


def _has(drain: Sink, wanted: int) -> bool:
    return drain.count() >= wanted
