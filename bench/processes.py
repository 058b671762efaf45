"""Starting and stopping programs, and waiting for them."""

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.words import BenchError, SkipError
from tests.support import ports

_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
_FILES = 65536


def program(name: str, package: str) -> str:
    """Where a program is. Raises `SkipError` naming the package that has it."""
    found = shutil.which(name, path=_PLACES)
    if found is None:
        raise SkipError(f"{name} is not installed (Debian: apt install {package}, or `make bench-deps`)")
    return found


def free_port() -> int:
    """A loopback port that stays with this process until a server asks for it by number."""
    return ports.free_port()


def many_files() -> None:
    """Let this process and those it starts have many open files."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def until(condition: Callable[[], object], seconds: float, what: str, every: float = 0.005) -> None:
    """Wait until something is so, by looking again and again: other processes don't call back."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not so after {seconds:g} s")
        time.sleep(every)


def greets(port: int, host: str = "127.0.0.1") -> bool:
    """Whether an SMTP server greets there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as sock:
        greeting = sock.recv(512)
        sock.sendall(b"QUIT\r\n")
        return greeting.startswith(b"220")
    return False


def run(command: Sequence[str | Path], **options: Any) -> str:
    """Run to the end, and give what it printed. Raises `BenchError` with its complaint."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise BenchError(f"{' '.join(map(str, command))}: status {done.returncode}: {done.stderr or done.stdout}")
    output: str = done.stdout
    return output


@contextlib.contextmanager
def running(command: Sequence[str | Path], log: Path, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that runs until the block ends; what it prints goes to the log."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(45)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
