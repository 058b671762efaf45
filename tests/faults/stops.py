"""Stops and clocks: SIGSTOP, SIGTERM, SIGHUP under load; the wall clock jumps."""

import asyncio
import fcntl
import os
import signal
import time
from pathlib import Path

from relay.process.supervisor import UNRESPONSIVE_AFTER
from tests.faults.campaign import CannotError, row
from tests.support.ledger import Score
from tests.support.raw_smtp import RawClient
from tests.support.running import alive, processor_time, until
from tests.support.stage import Stage, stage

_FAKETIME = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"),
)
_STOPPED = 3.0
"""Seconds of a SIGSTOP."""
_LONG = 120.0
_PATIENCE = 5.0
"""Seconds in which clients of other workers have an answer."""
_SOON = 12.0
"""Seconds until a start has ended a worker that hangs, and serves."""


@row("SIGTERM under load, then a start", rounds=10)
async def sigterm(folder: Path, rounds: int, seed: int) -> Score:
    """An orderly stop: no double is excused."""
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=2)
        for _ in range(rounds):
            await asyncio.sleep(on.random.uniform(0.1, 0.5))
            began = time.time()
            on.load.hurry = True
            status = await on.relay.stop(signal.SIGTERM)
            took = time.time() - began
            on.load.hurry = False
            if status != 0 or took > 35:
                on.wrong.append(f"ended with {status} after {took:.1f} s")
            on.events += 1
            await on.relay.start()
            on.recoveries.append(time.time() - began)
            await on.answering()
        return await on.settle()


@row("SIGHUP under load, every 50 ms", rounds=40, segment=40)
async def sighup(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=2)
        for _ in range(rounds):
            assert on.relay.process is not None
            on.relay.process.send_signal(signal.SIGHUP)
            on.events += 1
            await asyncio.sleep(0.05)
        await on.answering()
        score = await on.settle()
        if "child died" in on.relay.log:
            score.wrong.append("a worker died")
        return score


@row("SIGSTOP of a worker for 3 s, of two", rounds=4)
async def sigstop(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=2)
        for _ in range(rounds):
            await on.answering()
            worker = on.random.choice(on.workers())
            os.kill(worker, signal.SIGSTOP)
            await asyncio.sleep(_STOPPED)
            os.kill(worker, signal.SIGCONT)
            on.events += 1
            await on.answering()
        return await on.settle()


@row("SIGSTOP of all processes for 120 s", rounds=1, segment=1, long=True)
async def sigstop_all(folder: Path, rounds: int, seed: int) -> Score:
    """Nobody may be taken for hung afterwards, and every reply comes."""
    async with stage(folder, seed=seed, load={"patience": 2 * _LONG}) as on:
        await on.begin(workers=2)
        for _ in range(rounds):
            await on.answering()
            assert on.relay.process is not None
            before = on.workers()
            os.killpg(on.relay.process.pid, signal.SIGSTOP)
            await asyncio.sleep(_LONG)
            os.killpg(on.relay.process.pid, signal.SIGCONT)
            on.events += 1
            await on.answering()
            await asyncio.sleep(_STOPPED)
            if on.workers() != before:
                on.wrong.append("a worker was killed for having been stopped with all others")
        return await on.settle()


@row("SIGSTOP of a worker that has the turn to write, of two, until it is replaced", rounds=1, segment=5)
async def hung_worker(folder: Path, rounds: int, seed: int) -> Score:
    """The other one can commit nothing until the supervisor kills it."""
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=2)
        for n in range(rounds):
            worker = await _stop_in_turn(on)
            await _others_are_answered(on)
            async with asyncio.timeout(2 * UNRESPONSIVE_AFTER):
                while worker in on.workers() or len(on.workers()) < 2:
                    await asyncio.sleep(0.05)
            await on.answering()
            on.recoveries.append(time.time() - on.faults[-1])
            if on.relay.log.count("child does not respond") != n + 1:
                on.wrong.append("the log does not say that a worker did not respond")
        await on.load.stop()
        # A body file whose message never came to be stays until the next start, which sweeps.
        await on.relay.stop(signal.SIGTERM)
        await on.relay.start()
        return await on.settle()


@row("SIGSTOP of a worker, of two, then kill -9 of the supervisor", rounds=10, segment=5)
async def hung_orphan(folder: Path, rounds: int, seed: int) -> Score:
    """Nobody is left to replace the hung one, which has the turn to write every other time: the next start must."""
    async with stage(folder, seed=seed) as on:
        await on.begin(workers=2)
        for n in range(rounds):
            await on.answering()
            assert on.relay.process is not None
            workers = on.workers()
            if n % 2:
                os.kill(on.random.choice(workers), signal.SIGSTOP)
                on.faults.append(time.time())
            else:
                await _stop_in_turn(on)
            on.relay.process.kill()
            await asyncio.to_thread(on.relay.process.wait, 10)
            on.relay.spawn()
            await on.relay.greeted()
            if alive(workers):
                on.wrong.append("started beside a worker of the run before")
            on.recoveries.append(time.time() - on.faults[-1])
            if on.recoveries[-1] > _SOON:
                on.wrong.append(f"took {on.recoveries[-1]:.1f} s to serve again")
            if on.relay.log.count("killed a worker that outlived its supervisor") != n + 1:
                on.wrong.append("killed another worker than the one that hung")
            await on.answering()
        return await on.settle()


async def _others_are_answered(on: Stage) -> None:
    """A client of the other worker has a 451 soon; the stopped one does not even greet."""
    async with asyncio.timeout(UNRESPONSIVE_AFTER - 5):
        while (answered := await _answered(on)) is None:
            pass
    code, took = answered
    if code != 451 or took > _PATIENCE:
        on.wrong.append(f"a client of the other worker got {code} after {took:.1f} s")


async def _answered(on: Stage) -> tuple[int, float] | None:
    """The answer to a message, and how long it took; None where nobody greets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", on.relay.plain)
    client = RawClient(reader, writer)
    try:
        async with asyncio.timeout(1):
            await client.reply()
    except TimeoutError:
        return None
    else:
        for command in ("EHLO c.test", "MAIL FROM:<a@sender.test>", "RCPT TO:<never@d0.test>", "DATA"):
            assert await client.code(command) in {250, 354}
        began = time.monotonic()
        code = await client.code(b"From: <a@sender.test>\r\n\r\nx\r\n.\r\n")
        return code, time.monotonic() - began
    finally:
        writer.transport.abort()


async def _stop_in_turn(on: Stage) -> int:
    """Stop a worker, again and again, until it is one that has `writer.lock`."""
    lock = on.data_dir / "writer.lock"
    async with asyncio.timeout(60):
        while True:
            await asyncio.sleep(on.random.uniform(0.01, 0.05))
            worker = on.random.choice(on.workers())
            os.kill(worker, signal.SIGSTOP)
            on.faults.append(time.time())
            await asyncio.sleep(0.2)  # the other one ends what it has begun
            if await asyncio.to_thread(_held, lock):
                return worker
            on.faults.pop()
            os.kill(worker, signal.SIGCONT)


def _held(lock: Path) -> bool:
    """Whether somebody has the lock all the time: between the commits of a worker that lives it is free."""
    with lock.open("rb") as file:
        for _ in range(500):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.001)
            else:
                return False
    return True


@row("the wall clock jumps by 5 days", rounds=2, segment=2)
async def clock_forward(folder: Path, rounds: int, seed: int) -> Score:
    return await _jumps(folder, rounds, seed, 5 * 86_400)


@row("the wall clock jumps back by a day", rounds=2, segment=2)
async def clock_back(folder: Path, rounds: int, seed: int) -> Score:
    return await _jumps(folder, rounds, seed, -86_400)


@row("the wall clock is set back by a day between SIGTERM and the next start", rounds=2, segment=2)
async def clock_back_stopped(folder: Path, rounds: int, seed: int) -> Score:
    return await _jumps(folder, rounds, seed, -86_400, stopped=True)


async def _jumps(folder: Path, rounds: int, seed: int, seconds: int, *, stopped: bool = False) -> Score:
    """Under load with recipients that wait for their second attempt: nobody expires, nobody waits for a day."""
    library = next((path for path in _FAKETIME if path.exists()), None)
    if library is None:
        raise CannotError("libfaketime is not installed")
    clock = folder / "clock"
    clock.write_text("+0\n")
    async with stage(folder, seed=seed) as on:
        on.environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # files keep the time at which they were written
        }
        # Nothing but the clock is wrong here: on a machine that stands still for seconds no name server is late.
        patient = {"dns": {"timeout": "30s"}, "delivery": {"connect_timeout": "30s"}}
        await on.begin(retry={"schedule": ["10s"], "expire_after": "2d"}, **patient)
        offset = 0
        for _ in range(rounds):
            await on.answering()
            await asyncio.sleep(1)
            usual = await _cpu_of(on)
            await until(lambda: not on.sink.postponed.isdisjoint(on._live()))
            offset += seconds
            if stopped:
                await on.relay.stop(signal.SIGTERM)
            replacement = folder / "clock.new"
            replacement.write_text(f"{offset:+d}\n")
            replacement.rename(clock)
            on.events += 1
            if stopped:
                await on.relay.start()
                await on.answering()
            await asyncio.sleep(1.5)
            # A busy loop does not end; a backlog does.
            if (now := min([await _cpu_of(on) for _ in range(3)])) > 2 * usual + 0.3:
                on.wrong.append(f"a busy loop after the jump: {now:.0%} of a processor, {usual:.0%} before")
            await on.answering()
        score = await on.settle()
        if waiting := on._live():
            score.wrong.append(f"{len(waiting)} recipients wait although all could be delivered: {waiting[:3]}")
        return score


async def _cpu_of(on: Stage) -> float:
    """The worker's share of a processor over a second."""
    began, before = time.monotonic(), processor_time(on.workers()[0])
    await asyncio.sleep(1)
    return (processor_time(on.workers()[0]) - before) / (time.monotonic() - began)
