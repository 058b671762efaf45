"""Something runs out: room on the disk, inodes, descriptors, memory. None of these is a licence to double or lose."""

import asyncio
import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.campaign import CannotError, row
from tests.support.ledger import Answer, Given, Score
from tests.support.running import processor_time
from tests.support.stage import Stage, stage

_GROWTH_MOST = 100
"""MiB of resident memory for a hundred connections that each send a large message: 1 MiB each."""


@row("disk full, then room again", rounds=5, segment=5)
async def disk_full(folder: Path, rounds: int, seed: int) -> Score:
    with small_disk(folder, "size=24m") as disk:
        # Deliveries take long enough that many are on the wire when the disk is full: their marks must wait for room.
        async with stage(folder, seed=seed, delay=0.3) as on:
            await on.begin(data_dir=str(disk / "data"), limits={"free_disk": "4KiB"})
            for _ in range(rounds):
                await on.answering()
                with filled(disk):
                    await _refused(on, "452")
                    await asyncio.sleep(1)
                    _worker_alive(on)
                await on.answering()
                on.events += 1
            score = await on.settle()
            await asyncio.to_thread(on.relay.kill)
            return score


@row("too little room by the settings: 452 before the disk is full", rounds=3, segment=3)
async def disk_low(folder: Path, rounds: int, seed: int) -> Score:
    with small_disk(folder, "size=64m") as disk:
        async with stage(folder, seed=seed) as on:
            await on.begin(data_dir=str(disk / "data"), limits={"free_disk": "16MiB"})
            for _ in range(rounds):
                await on.answering()
                with filled(disk, leave=8 << 20):
                    await _refused(on, "452")
                    if "is full" in on.relay.log:
                        on.wrong.append("the disk was really full")
                await on.answering()
                on.events += 1
            score = await on.settle()
            await asyncio.to_thread(on.relay.kill)
            return score


@row("no inodes, then some again", rounds=5, segment=5)
async def no_inodes(folder: Path, rounds: int, seed: int) -> Score:
    with small_disk(folder, "size=64m,nr_inodes=200") as disk:
        async with stage(folder, seed=seed) as on:
            await on.begin(data_dir=str(disk / "data"))
            for _ in range(rounds):
                await on.answering()
                extra = _use_inodes(disk)
                await _refused(on, "452")
                await on.answering()  # small messages need no file
                for path in extra:
                    path.unlink()
                on.events += 1
            score = await on.settle()
            await asyncio.to_thread(on.relay.kill)
            return score


@row("60 descriptors, 200 clients that hold on", rounds=2, segment=2, alone=True)
async def descriptors(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        # Straight to an address: the row is about connections and files, not about look-ups.
        await on.begin(route=[{"domains": ["*"], "relay_host": f"{on.sink.address}:{on.sink.port}", "tls": "none"}])
        shares = []
        for _ in range(rounds):
            await on.answering()
            (worker,) = on.workers()
            soft, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (60, hard))
            idle = [await asyncio.open_connection("127.0.0.1", on.relay.plain) for _ in range(200)]
            await asyncio.sleep(0.5)
            before = processor_time(worker)
            await asyncio.sleep(2)
            shares.append((processor_time(worker) - before) / 2)
            for _, writer in idle:
                writer.transport.abort()
            await on.answering()  # with the limit still there
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (soft, hard))
            _worker_alive(on, worker)
            on.events += 1
        score = await on.settle()
        score.notes.append(f"{max(shares):.0%} of a processor meanwhile")
        if max(shares) > 0.9:
            score.wrong.append(f"a busy loop: {max(shares):.0%} of a processor while no descriptor was left")
        return score


@row("200 MB more memory at most, 30 MB messages on 100 connections", rounds=100, segment=100, alone=True)
async def memory(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin(load=False, limits={"connections_per_address": 200, "free_disk": "1MiB"})
        await on.load.once(_huge(on))
        (worker,) = on.workers()
        status = Path(f"/proc/{worker}/status")
        bound = (_kilobytes(status, "VmSize") << 10) + (200 << 20)
        _, most = resource.prlimit(worker, resource.RLIMIT_AS)
        resource.prlimit(worker, resource.RLIMIT_AS, (bound, most))
        before = _kilobytes(status, "VmHWM")
        sends = [on.load.once(_huge(on)) for _ in range(rounds)]
        broken = [error for error in await asyncio.gather(*sends, return_exceptions=True) if error is not None]
        _worker_alive(on, worker)
        # A connection may be given up for want of memory: before the final dot that is no promise broken.
        on.wrong += [f"broken off: {error!r}" for error in broken if not isinstance(error, (OSError, EOFError))]
        on.events = rounds
        grown = (_kilobytes(status, "VmHWM") - before) >> 10
        resource.prlimit(worker, resource.RLIMIT_AS, (most, most))
        score = await on.settle()
        if waiting := on._live():
            score.wrong.append(f"{len(waiting)} recipients wait although there is memory again: {waiting[:3]}")
        score.notes.append(f"peak RSS grew by {grown} MiB")
        if grown > _GROWTH_MOST:
            score.wrong.append(f"peak RSS grew by {grown} MiB, with {rounds} messages of 30 MB at once")
        return score


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        raise CannotError("needs root and mount")
    disk = folder / "small"
    disk.mkdir()
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"{options},mode=0700", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if made.returncode != 0:
        raise CannotError(f"a tmpfs cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextlib.contextmanager
def filled(disk: Path, leave: int = 0) -> Iterator[None]:
    """Nothing free but `leave` octets, until it ends."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            state = os.statvfs(disk)
            if (free := state.f_bavail * state.f_frsize) <= leave:
                break
            file.write(b"x" * min(1 << 20, max(4096, free - leave)))
    try:
        yield
    finally:
        filler.unlink()


def _use_inodes(disk: Path) -> list[Path]:
    used = []
    with contextlib.suppress(OSError):
        while True:
            path = disk / f"inode-{len(used)}"
            path.touch()
            used.append(path)
    return used


def _huge(on: Stage) -> Given:
    given = on.load.message()
    given.recipients = (f"ok-{given.token}@d0.test",)
    on.load.sizes[given.token] = 30 << 20
    on.ledger.given[given.token] = given
    return given


async def _refused(on: Stage, code: str) -> None:
    """Wait until a message is refused with the code."""
    began = time.time()
    async with asyncio.timeout(30):
        while not any(
            given.answer is Answer.REFUSED and given.reply.startswith(code) and given.at >= began
            for given in on.ledger.given.values()
        ):
            await asyncio.sleep(0.05)


def _worker_alive(on: Stage, pid: int | None = None) -> None:
    if "child died" in on.relay.log or (pid is not None and pid not in on.workers()):
        on.wrong.append("a worker died")


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
