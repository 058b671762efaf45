"""A child that hangs is killed and replaced; one that was stopped together with its supervisor is not."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from relay.process.pulse import Pulse
from relay.process.supervisor import Child, Supervisor

_PATIENCE = 5.0


def lives(report: int, pulse: Pulse, lifeline: int, *, hang: Callable[[], None] | None = None) -> int:
    """An event loop that beats until the supervisor is gone. The first one born hangs after a moment."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        pulse.keep_beating(loop)
        ended = asyncio.Event()
        loop.add_reader(lifeline, ended.set)
        os.write(report, b"born ")
        if hang is not None:
            loop.call_later(0.5, hang)
        await ended.wait()

    asyncio.run(run())
    return 0


@contextlib.contextmanager
def supervised(**options: object) -> Iterator[tuple[int, int]]:
    """A supervisor with one such child, in a process group of its own: (its pid, the end to read reports from)."""
    ours, theirs = os.pipe()
    supervisor = os.fork()
    if not supervisor:
        os.setpgid(0, 0)
        pulse = Pulse()
        child = Child("lives", partial(lives, theirs, pulse, **options), pulse=pulse)

        def tell(what: str, **_: object) -> None:
            os.write(theirs, f"[{what}] ".encode())

        os._exit(Supervisor([child], tell, unresponsive_after=_PATIENCE).run())
    ending = threading.Timer(60, os.kill, (supervisor, signal.SIGKILL))
    ending.start()
    try:
        yield supervisor, ours
    finally:
        os.kill(supervisor, signal.SIGTERM)
        os.waitpid(supervisor, 0)
        ending.cancel()
        os.close(ours)
        os.close(theirs)


def read_until(report: int, words: bytes) -> bytes:
    said = b""
    while words not in said:
        said += os.read(report, 1000)
    return said


def stop_myself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_stopped_child_is_killed_and_replaced():
    with supervised(hang=stop_myself) as (_, report):
        read_until(report, b"born [child does not respond] [child died] born ")


def test_a_loop_that_hangs_is_killed_and_replaced():
    with supervised(hang=threading.Event().wait) as (_, report):
        read_until(report, b"born [child does not respond] [child died] born ")


def test_after_a_stop_of_all_nobody_is_killed():
    with supervised() as (supervisor, report):
        read_until(report, b"born ")
        child = int(Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text())
        os.kill(child, signal.SIGSTOP)
        time.sleep(1.2)  # its last beat has been seen
        os.kill(supervisor, signal.SIGSTOP)
        time.sleep(_PATIENCE + 2)
        # The supervisor wakes first, and sees a child that has not beaten for longer than its patience.
        os.kill(supervisor, signal.SIGCONT)
        time.sleep(0.5)
        os.killpg(supervisor, signal.SIGCONT)
        time.sleep(2)
        os.kill(supervisor, signal.SIGHUP)
        os.set_blocking(report, False)
        with contextlib.suppress(BlockingIOError):
            assert os.read(report, 1000) == b"", "neither killed nor born again"
