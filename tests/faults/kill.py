"""kill -9 under load: of a worker, of the supervisor alone, of all processes at once."""

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.faults.campaign import row
from tests.support.ledger import Score
from tests.support.running import alive
from tests.support.stage import AIMS, Stage, stage

_ADULT = 2.1
"""A worker that lived for this long (seconds) may die without making the supervisor more careful."""
_WORKERS = 6
"""So many that one of them is always old enough."""


@row("kill -9 of all processes", rounds=1000)
async def kill(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin()
        for n in range(rounds):
            await on.aimed(AIMS[n % len(AIMS)], on.kill)
            await on.restart()
            await on.answering()
        return await on.settle()


@row("kill -9 of the supervisor alone", rounds=500)
async def kill_supervisor(folder: Path, rounds: int, seed: int) -> Score:
    """Its workers must notice and end; the next start waits for them."""
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=2)
        for n in range(rounds):
            assert on.relay.process is not None
            workers = on.workers()
            await on.aimed(AIMS[n % len(AIMS)], on.relay.process.kill)
            await asyncio.to_thread(on.relay.process.wait, 10)
            on.relay.spawn()
            async with asyncio.timeout(10):
                while alive(workers):
                    await asyncio.sleep(0.01)
            await on.relay.greeted()
            on.recoveries.append(time.time() - on.faults[-1])
            await on.answering()
        return await on.settle()


@row(f"kill -9 of a worker, of {_WORKERS}: the one that just gave or got a 250", rounds=2500, segment=250)
async def kill_worker(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=_WORKERS)
        born = dict.fromkeys(on.workers(), time.monotonic())
        for n in range(rounds):
            while not (adults := [pid for pid, at in born.items() if time.monotonic() - at > _ADULT]):
                await asyncio.sleep(0.02)
            owners = on.owners()
            await on.aimed(AIMS[n % len(AIMS)], lambda: _kill_one(on, adults, owners))  # noqa: B023 -- called at once
            await _replaced(on, set(born))
            on.recoveries.append(time.time() - on.faults[-1])
            await on.answering()
            born = {pid: born.get(pid, time.monotonic()) for pid in on.workers()}
        await on.load.stop()
        # A body file whose message never came to be stays until the next start, which sweeps.
        if await on.relay.stop(signal.SIGTERM) != 0:
            on.wrong.append("did not end in order")
        await on.relay.start()
        return await on.settle()


@row("kill -9 of all processes, again during recovery", rounds=500)
async def kill_recovering(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin()
        for n in range(rounds):
            await on.aimed(AIMS[n % len(AIMS)], on.kill)
            first = on.faults[-1]
            await asyncio.to_thread(on.relay.kill)
            on.relay.spawn()
            await asyncio.sleep(on.random.uniform(0.2, 0.5))
            on.kill()
            on.faults.append(time.time())
            await asyncio.to_thread(on.relay.kill)
            await on.relay.start()
            on.recoveries.append(time.time() - on.faults[-1])
            assert first < on.faults[-1]
            await on.answering()
        return await on.settle()


def _kill_one(on: Stage, adults: list[int], owners: dict[int, int]) -> None:
    """The worker at the other end of the 250 that was just read or written, or any that is old enough."""
    owner = owners.get(on.struck)
    os.kill(owner if owner in adults else on.random.choice(adults), signal.SIGKILL)


async def _replaced(on: Stage, before: set[int]) -> None:
    async with asyncio.timeout(30):
        while len(now := on.workers()) < len(before) or set(now) == before:
            await asyncio.sleep(0.01)
    await on.relay.greeted()
