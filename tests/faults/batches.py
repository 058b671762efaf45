"""kill -9 within a group commit: at each system call of the writer while it stores a batch, and while it marks one."""

import asyncio
import contextlib
import fcntl
import time
from collections import Counter
from pathlib import Path

from tests.faults.campaign import CannotError, row
from tests.faults.syscalls import BORING, find_writer
from tests.support.ledger import Answer, Given, Score
from tests.support.running import until
from tests.support.stage import Stage, stage
from tests.support.traced import NoTraceError, attached, calls

_BATCH = 40
"""Messages that wait for the writer together: fewer than it takes into one commit."""
_MEMORY = {"mprotect", "mmap", "munmap", "brk"}

Point = tuple[str, int]
"""A call's name, and which of that name it is."""


@row(f"kill -9 at each system call of a commit of {_BATCH} messages, and of their marks", rounds=200, segment=200)
async def batch_kills(folder: Path, rounds: int, seed: int) -> Score:
    """A batch is there as a whole afterwards, or not at all, and is there if anything of it was acknowledged."""
    async with stage(folder, seed=seed, delay=0.3) as on:
        await on.begin(load=False)
        on.load.plain = True
        batches: list[list[Given]] = []
        try:
            points = await _points(on)
        except NoTraceError as error:
            raise CannotError(str(error)) from error
        for name, number in points[:rounds]:
            await on.restart_quietly()
            options = ("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
            batches.append(await _batch(on, await find_writer(on), *options, killed=True))
        await on.restart_quietly()
        score = await on.settle()
        whole = 0
        for batch in batches:
            there = sum(bool(on.ledger.handed.get(given.recipients[0])) for given in batch)
            whole += there == _BATCH
            if there not in (0, _BATCH):
                score.wrong.append(f"{there} of a batch of {_BATCH} were stored")
        score.notes.append(f"{len(batches)} of {len(points)} calls; {whole} batches were stored, the others not")
        return score


async def _points(on: Stage) -> list[Point]:
    """Every call of a batch's two commits: first the syncs, then the others, far ones after each other."""
    writer = await find_writer(on)
    await _batch(on, writer)
    counted: Counter[str] = Counter()
    points: list[Point] = []
    for call in calls(on.world.folder / "batch.trace"):
        if call.thread == writer and call.name not in BORING | _MEMORY:
            counted[call.name] += 1
            points.append((call.name, counted[call.name]))
    syncs = [point for point in points if point[0] == "fdatasync"]
    rest = [point for point in points if point[0] != "fdatasync"]
    return syncs + [rest[at] for start in range(16) for at in range(start, len(rest), 16)]


async def _batch(on: Stage, writer: int, *options: str, killed: bool = False) -> list[Given]:
    """Messages whose final dots come while the writer waits for its turn, and marks that come while it does again."""
    batch = [on.load.message() for _ in range(_BATCH)]
    on.ledger.given.update((given.token, given) for given in batch)
    before = on.sink.taken
    target = writer if killed else on.workers()[0]
    with (on.data_dir / "writer.lock").open("rb") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with attached(target, on.world.folder / "batch.trace", *options, threads=not killed) as tracer:
            clients = [asyncio.create_task(_client(on, given)) for given in batch]
            await until(lambda: tracer.poll() is not None or all(given.answer is Answer.UNKNOWN for given in batch))
            await asyncio.sleep(0.1)  # the last of them are on their way to the writer
            fcntl.flock(turn, fcntl.LOCK_UN)
            await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.to_thread(fcntl.flock, turn, fcntl.LOCK_EX)
            await asyncio.wait(clients)
            await until(lambda: tracer.poll() is not None or on.sink.taken >= before + _BATCH)
            await asyncio.sleep(0.1)
            fcntl.flock(turn, fcntl.LOCK_UN)
            # A call more or fewer than in the recording: then this one is never reached, and nothing dies.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.to_thread(tracer.wait), 0.5)
            if tracer.poll() is not None:
                on.faults.append(time.time())
    return batch


async def _client(on: Stage, given: Given) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await on.load.once(given)
