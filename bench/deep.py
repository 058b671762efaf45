"""A queue with a million deferred recipients: what it costs to start, to look at, and to relay beside it."""

import asyncio
import os
import shutil
import statistics
import time
from pathlib import Path

from bench import tree
from bench.ours import Relay, RelayOptions, the_route
from bench.processes import free_port, greets, until
from bench.queue_depth import fill, puts
from bench.runs import Plan, in_turn, settle
from bench.traffic import Load, sink
from bench.words import BenchError, Row, Target
from relay_queue.model import LOCAL_NODE, Destination
from relay_queue.sqlite import open_admin, open_queue

_DOMAINS = 5000
_BODY = 512
_HOUR = 3600.0
_DUE = _HOUR * 3
"""Not within a run, and no later than a retry can be by the settings: what is later was set by a wrong clock."""
_SHALLOW = 10_000
_CLAIM = 100


def measure(name: str, folder: Path, plan: Plan) -> list[Row]:
    """Rows about starting, memory, the shell's commands and claiming."""
    relay = Relay(folder / "relay", RelayOptions(extra=the_route(free_port())))
    _deepen(relay, folder.parent, plan.depth)
    starts, memory, shared, cold, summaries, lists = [], [], [], [], [], []
    for number in range(plan.runs):
        _forget(relay.data_dir)
        began = time.perf_counter()
        with relay.starting():
            until(lambda: greets(relay.port), 120, f"the relay greets (see {relay.folder}/log)")
            starts.append(time.perf_counter() - began)
            settle(relay, 2)
            cold.append(_timed(relay, "queue", "summary"))
            summaries.append(_timed(relay, "queue", "summary"))
            lists.append(_timed(relay, "queue", "list", "--limit", "100"))
            memory.append(tree.resident(*relay.roots()) / 1e6)
            shared.append(tree.proportional(*relay.roots()) / 1e6)
        print(
            f"  run {number + 1} start {starts[-1]:.2f} s, {memory[-1]:.0f} MB ({shared[-1]:.0f} MB with shared pages "
            f"counted once), summary {cold[-1]:.2f} s, then {summaries[-1]:.2f} s, list {lists[-1]:.2f} s"
        )
    _recall(relay.data_dir)
    deep = _claims(relay.data_dir, _DOMAINS)
    shallow = _claims(_shallow(folder), _DOMAINS * _SHALLOW // plan.depth or 1)
    what = f"{plan.depth:,} deferred: "
    return [
        Row(name, what + "start to serving", "s", starts, target=Target("value", 3, at_least=False)),
        Row(name, what + "memory of all processes", "MB", memory, target=Target("value", 300, at_least=False)),
        Row(name, what + "memory, shared pages once", "MB", shared),
        Row(name, what + "first `queue summary` after a reboot", "s", cold),
        Row(name, what + "`queue summary`", "s", summaries, target=Target("value", 1, at_least=False)),
        Row(name, what + "`queue list --limit 100`", "s", lists, target=Target("value", 0.3, at_least=False)),
        Row(
            name,
            what + f"claim up to {_CLAIM} of a domain",
            "ms",
            deep,
            shallow,
            f"{_SHALLOW:,} deferred",
            Target("ratio", 3, at_least=False),
        ),
    ]


def throughput(name: str, folder: Path, plan: Plan) -> list[Row]:
    """Relaying beside a deep queue and beside an empty one."""
    port = free_port()
    deep, empty = (Relay(folder / kind, RelayOptions(extra=the_route(port))) for kind in ("deep", "empty"))
    _deepen(deep, folder.parent, plan.depth)
    with sink(folder, port=port) as drain, deep.serving(), empty.serving():
        deep.name, empty.name = "deep", "empty"
        samples = in_turn((deep, empty), drain, Load(), plan)
    beside_many, beside_none = ([sample.rate for sample in mine] for mine in samples)
    what = f"relayed beside {plan.depth:,} deferred"
    return [Row(name, what, "messages/s", beside_many, beside_none, "depth 0", Target("ratio", 0.9))]


def _deepen(relay: Relay, parent: Path, depth: int) -> None:
    """Put a deep queue into a relay's folder. It is made once for all benchmarks of a call."""
    made = parent / f"queue-{depth}"
    if not made.exists():
        print(f"  filling a queue with {depth:,} recipients", flush=True)
        made.mkdir(mode=0o700)
        open_admin(made).close()
        fill(made, puts(depth, _DOMAINS, _BODY, first_due=_DUE))
    shutil.copytree(made, relay.data_dir, dirs_exist_ok=True)
    if (found := relay.waiting()) != depth:
        raise BenchError(f"the queue should hold {depth} recipients, but holds {found}")


def _forget(data_dir: Path) -> None:
    """Let the kernel forget the files, so that a start reads them from the disk as after a reboot."""
    for path in data_dir.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDWR)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def _recall(data_dir: Path) -> None:
    """Let the kernel have the files in memory: what a claim computes is compared, not the disk."""
    for path in data_dir.glob("*.db"):
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass


def _shallow(folder: Path) -> Path:
    made = folder / "shallow"
    made.mkdir(mode=0o700)
    open_admin(made).close()
    # As many recipients a domain as in the deep one.
    fill(made, puts(_SHALLOW, _DOMAINS * _SHALLOW // 1_000_000, _BODY, first_due=_DUE))
    return made


def _timed(relay: Relay, *arguments: str) -> float:
    began = time.perf_counter()
    relay.cli(*arguments)
    return time.perf_counter() - began


def _claims(data_dir: Path, domains: int) -> list[float]:
    """Milliseconds of claims, of domains one after the other."""

    async def claim() -> list[float]:
        queue = open_queue(data_dir)
        owner = await queue.lease(LOCAL_NODE, 0)
        due = time.time() + _HOUR * 24
        times = []
        for number in range(min(domains, 40)):
            began = time.perf_counter()
            claimed = await queue.claim(owner, Destination(f"d{number}.test"), _CLAIM, due)
            times.append((time.perf_counter() - began) * 1000)
            assert claimed, "the queue was filled with this domain"
        await queue.aclose()
        return times

    times = asyncio.run(claim())
    return [statistics.median(times), min(times), max(times)]
