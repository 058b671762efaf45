"""Faults at single system calls of a worker: killed at each one of an accept and a delivery; errors; a slow disk."""

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path

from tests.faults.campaign import CannotError, row
from tests.support.ledger import Answer, Given, Score
from tests.support.load import round_trips
from tests.support.stage import Stage, stage
from tests.support.traced import NoTraceError, attached, calls

BORING = {"futex", "epoll_wait", "epoll_pwait", "epoll_ctl", "getpid", "getrandom", "clock_nanosleep", "madvise"}
"""Nothing changes between the call before one of these and itself."""
_STEPS = "trace=!futex,epoll_wait,epoll_pwait"
_SLOW = 4.0
"""Seconds under a slow disk."""
_LAG_MOST = 0.05
"""Seconds that other clients' replies take meanwhile, at the median: a loop that waited for the disk would take 0.5."""
_ERRORS = (
    ("fsync,fdatasync", 1),
    ("fsync,fdatasync", 2),
    ("fsync,fdatasync", 5),
    ("pwrite64", 1),
    ("pwrite64", 7),
    ("rename,renameat,renameat2", 1),
    ("unlink,unlinkat", 1),
)


@row("kill -9 at each system call of one accept and one delivery", rounds=1000, segment=1000)
async def syscall_kills(folder: Path, rounds: int, seed: int) -> Score:
    """`rounds` bounds how many of the points are taken, spread evenly."""
    async with stage(folder, seed=seed) as on:
        await on.begin(load=False)
        try:
            points = await _points(on)
        except NoTraceError as error:
            raise CannotError(str(error)) from error
        every = max(1, len(points) / rounds)
        chosen = [points[int(n * every)] for n in range(int(len(points) / every))]
        for role, name, number in chosen:
            await on.restart_quietly()
            await _kill_at(on, role, name, number)
        await on.restart_quietly()
        score = await on.settle()
        score.notes.append(f"{len(chosen)} of {len(points)} calls")
        return score


@row("EIO from fsync, write, rename, unlink", rounds=len(_ERRORS), segment=len(_ERRORS))
async def input_output_error(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed) as on:
        await on.begin()
        for calls_, number in (_ERRORS * rounds)[:rounds]:
            await on.answering()
            problem = await _fail(on, calls_, number)
            on.faults.append(time.time())
            on.kill()
            await on.restart()
            on.wrong += problem
        return await on.settle()


@row("each fsync takes 500 ms", rounds=1, segment=1000, alone=True)
async def slow_disk(folder: Path, rounds: int, seed: int) -> Score:
    async with stage(folder, seed=seed, load={"connections": 20, "rate": 200}) as on:
        await on.begin()
        await on.answering()
        writer = await find_writer(on)
        before = len(on.ledger.answered())
        lags: list[float] = []
        try:
            options = ("-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:delay_enter=500000")
            with attached(writer, on.world.folder / "slow.trace", *options):
                on.events += 1
                end = time.monotonic() + _SLOW
                while time.monotonic() < end:
                    lags += await round_trips(on.relay.plain)
        except NoTraceError as error:
            raise CannotError(str(error)) from error
        taken = len(on.ledger.answered()) - before
        lags.sort()
        score = await on.settle()
        score.notes.append(
            f"{taken / _SLOW:.0f} msg/s; other clients answered in {lags[len(lags) // 2] * 1000:.1f} ms, "
            f"worst {lags[-1] * 1000:.0f} ms"
        )
        if lags[len(lags) // 2] > _LAG_MOST:
            score.wrong.append("other clients wait for the disk")
        return score


async def _points(on: Stage) -> list[tuple[str, str, int]]:
    """(role of the thread, call, number) for everything that one accept and its delivery do."""
    writer = await find_writer(on)
    (worker,) = on.workers()
    log = on.world.folder / "accept.trace"
    with attached(worker, log, threads=True):
        await _one(on)
    counted: Counter[tuple[str, str]] = Counter()
    for call in calls(log):
        role = "writer" if call.thread == writer else "loop" if call.thread == worker else "other"
        if call.name not in BORING and role != "other":
            counted[role, call.name] += 1
    return [(role, name, n) for (role, name), count in sorted(counted.items()) for n in range(1, count + 1)]


async def _kill_at(on: Stage, role: str, name: str, number: int) -> None:
    (worker,) = on.workers()
    target = worker if role == "loop" else await find_writer(on)
    options = ("-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
    with attached(target, on.world.folder / "kill.trace", *options) as tracer:
        await _one(on)
        with contextlib.suppress(TimeoutError):
            # A call more or fewer than in the recording: then this one is never reached, and nothing dies.
            await asyncio.wait_for(asyncio.to_thread(tracer.wait), 0.3)
        died = tracer.poll() is not None
    if died:
        on.faults.append(time.time())


async def _one(on: Stage) -> Given:
    """One message, with a body in a file, and its delivery, or as much of it as the relay lives to see."""
    given = on.load.large_message()
    on.ledger.given[given.token] = given
    before = on.sink.taken
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        await on.load.once(given)
    if given.answer is Answer.TAKEN:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while on.sink.taken == before:
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)  # the mark
    return given


async def find_writer(on: Stage) -> int:
    """The thread that syncs: found by what it does."""
    (worker,) = on.workers()
    log = on.world.folder / "writer.trace"
    with attached(worker, log, "-e", "trace=fsync,fdatasync", threads=True):
        await _one(on)
    return next(call.thread for call in calls(log))


async def _fail(on: Stage, names: str, number: int) -> list[str]:
    """Let a call fail once under load; what is wrong with how the relay takes it."""
    wrong: list[str] = []
    (worker,) = on.workers()
    log = on.world.folder / "error.trace"
    options = ("-e", f"trace={names}", "-e", f"inject={names}:error=EIO:when={number}")
    try:
        with attached(worker, log, *options, threads=True):
            async with asyncio.timeout(30):
                while "(INJECTED)" not in log.read_text():
                    await asyncio.sleep(0.02)
            if names.startswith("unlink"):
                await on.answering()  # litter, no more
                return wrong
            if names in {"fsync,fdatasync", "pwrite64"}:
                await _says_so(on, wrong)
                after = log.read_text().partition("(INJECTED)")[2]
                if names.startswith("fsync") and ("fdatasync(" in after or "fsync(" in after):
                    wrong.append(f"synced again after a failed sync: {after[:200]}")
            else:
                await asyncio.sleep(0.2)
    except NoTraceError as error:
        raise CannotError(str(error)) from error
    return wrong


async def _says_so(on: Stage, wrong: list[str]) -> None:
    """After an error of the medium new connections get 421, and `relay check` names the reason."""
    async with asyncio.timeout(20):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", on.relay.plain)
            greeting = await reader.readline()
            writer.transport.abort()
            if greeting.startswith(b"421"):
                break
            await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(10):
            while "stopped writing" not in await _checked(on):
                await asyncio.sleep(0.1)
    except TimeoutError:
        wrong.append(f"`relay check` does not say that the queue stopped: {await _checked(on)}")


async def _checked(on: Stage) -> str:
    done = await asyncio.to_thread(on.relay.run, "check")
    return (done.stdout + done.stderr).decode()
