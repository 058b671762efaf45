"""strace on a running process: what it calls, and calls that fail, stall or kill.

`strace -p TID` without `-f` follows one thread alone and counts its calls alone, so that "the third fsync of the
writer" means just that, and the event loop of the same process is not slowed down.
"""

import contextlib
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class NoTraceError(Exception):
    """This machine does not let us trace, with the reason in words."""


@dataclass(slots=True, frozen=True)
class Call:
    """One call of a trace."""

    thread: int
    name: str
    line: str


_CALL = re.compile(r"^(\d+) +(?:\d+\.\d+ )?(\w+)\(")


@contextlib.contextmanager
def attached(target: int, log: Path, *options: str, threads: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """strace on a process (with all its `threads`) or on one thread; detached at the end."""
    strace = shutil.which("strace")
    if strace is None:
        raise NoTraceError("strace is not installed")
    # -f writes each line's thread; for a single thread -ff would too, but into a file of its own.
    command = [strace, *(["-f"] if threads else []), "-o", str(log), *options, "-p", str(target)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        _wait(tracer, target)
        yield tracer
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        _, _ = tracer.communicate(timeout=30)


def calls(log: Path) -> list[Call]:
    """The calls in a log that was written with `threads`, in order."""
    lines = log.read_text(errors="replace").splitlines()
    return [Call(int(match[1]), match[2], line) for line in lines if (match := _CALL.match(line))]


def _wait(tracer: subprocess.Popen[bytes], target: int) -> None:
    """Until the target is traced: the kernel says so in its status."""
    status = Path(f"/proc/{target}/status")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if tracer.poll() is not None:
            assert tracer.stderr is not None
            raise NoTraceError(f"strace: {tracer.stderr.read().decode().strip()}")
        with contextlib.suppress(OSError):
            if f"TracerPid:\t{tracer.pid}\n" in status.read_text():
                return
        time.sleep(0.005)
    raise NoTraceError("strace did not attach within 10 s")


def checked() -> None:
    """Raises `NoTraceError` where strace is missing or may not trace."""
    strace = shutil.which("strace")
    if strace is None:
        raise NoTraceError("strace is not installed")
    done = subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoTraceError(f"strace may not trace here: {done.stderr.strip()[:200]}")
