"""Power cuts under load, on ext4 and xfs: the whole relay, its data folder on a disk that loses power.

The processes are killed in the same instant, just before. Without that they live on for some milliseconds with an fsync
under way, and Linux 6.18 then sometimes answers success to an fsync that the shutdown overtook (measured with a program
of ten lines: 10 in 150 cuts on ext4, 3 on xfs; never for one that ended before the cut). No machine without power
can send the reply that follows.
"""

import asyncio
import time
from pathlib import Path

from tests.faults.campaign import CannotError, row
from tests.support.ledger import Score
from tests.support.power import NoPowerError, PowerDisk, power_disk
from tests.support.stage import AIMS, Stage, stage


@row("power cut, ext4, loaded", rounds=500)
async def power_ext4(folder: Path, rounds: int, seed: int) -> Score:
    return await _cuts(folder, rounds, seed, "ext4")


@row("power cut, xfs, loaded", rounds=500)
async def power_xfs(folder: Path, rounds: int, seed: int) -> Score:
    return await _cuts(folder, rounds, seed, "xfs")


@row("power cut, ext4, idle: after the only 250", rounds=150)
async def power_ext4_idle(folder: Path, rounds: int, seed: int) -> Score:
    return await _cuts(folder, rounds, seed, "ext4", idle=True)


@row("power cut, xfs, idle: after the only 250", rounds=150)
async def power_xfs_idle(folder: Path, rounds: int, seed: int) -> Score:
    return await _cuts(folder, rounds, seed, "xfs", idle=True)


@row("power cut, ext4, and another during recovery", rounds=175)
async def power_ext4_recovering(folder: Path, rounds: int, seed: int) -> Score:
    return await _cuts(folder, rounds, seed, "ext4", again=True)


@row("power cut, xfs, and another during recovery", rounds=175)
async def power_xfs_recovering(folder: Path, rounds: int, seed: int) -> Score:
    return await _cuts(folder, rounds, seed, "xfs", again=True)


async def _cuts(folder: Path, rounds: int, seed: int, kind: str, *, idle: bool = False, again: bool = False) -> Score:
    load = {"connections": 1, "rate": 5} if idle else {"connections": 8, "rate": 600}
    try:
        with power_disk(folder, kind) as disk:
            async with stage(folder, seed=seed, load=load) as on:
                await on.begin(data_dir=str(disk.data_dir))

                def cut() -> None:
                    on.kill()
                    disk.cut()

                for n in range(rounds):
                    await on.aimed("after 250" if idle else AIMS[n % len(AIMS)], cut)
                    await _replug(on, disk)
                    if again:
                        on.relay.spawn()
                        await asyncio.sleep(on.random.uniform(0.15, 0.45))
                        cut()
                        on.faults.append(time.time())
                        await _replug(on, disk)
                    await on.restart()
                    await on.answering()
                score = await on.settle()
                await asyncio.to_thread(on.relay.kill)  # before its disk goes
                return score
    except NoPowerError as error:
        raise CannotError(str(error)) from error


async def _replug(on: Stage, disk: PowerDisk) -> None:
    await asyncio.to_thread(on.relay.kill)
    await asyncio.to_thread(disk.remount)
