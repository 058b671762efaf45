"""Load generator and sink: smtp-source and smtp-sink, both of the Postfix package."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.addresses import RECIPIENT, SENDER
from bench.keys import Secrets
from bench.processes import free_port, greets, program, running, until
from bench.words import BenchError

_COUNTER = re.compile(rb"mesg=\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """What is submitted."""

    size: int = 4096
    """Octets of payload."""
    kept: bool = True
    """Many messages on a connection; otherwise a connection a message."""
    sessions: int = 20
    secure: bool = False
    """STARTTLS and AUTH, which smtp-source cannot do: `bench.client` does."""


class Sink:
    """A running smtp-sink, which throws mail away and counts it."""

    def __init__(self, port: int, log: Path, host: str = "127.0.0.1") -> None:
        self.port = port
        self.host = host
        self._log = log

    def count(self) -> int:
        """Messages since its start. It writes its counters whenever they change."""
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 400))
            found = _COUNTER.findall(log.read())
        return int(found[-1]) if found else 0


@contextlib.contextmanager
def sink(
    folder: Path, host: str = "127.0.0.1", port: int = 0, name: str = "sink", dump: Path | None = None
) -> Iterator[Sink]:
    """An smtp-sink that runs until the block ends. `dump`: a file that gets the messages."""
    port = port or free_port()
    log = folder / f"{name}.log"
    options = ["-u", "root" if dump else "nobody"] if os.geteuid() == 0 else []
    options += ["-D", str(dump)] if dump else []
    command = [program("smtp-sink", "postfix"), "-4", "-c", "-m", "8192", *options, f"{host}:{port}", "4096"]
    with running(command, log):
        until(lambda: greets(port, host), 10, f"smtp-sink at {host}:{port} greets")
        yield Sink(port, log, host)


def source(port: int, load: Load, count: int) -> "subprocess.Popen[bytes]":
    """An smtp-source that submits `count` messages and ends."""
    command = [program("smtp-source", "postfix"), "-4", "-s", str(min(load.sessions, count)), "-m", str(count)]
    command += ["-l", str(load.size), "-M", "client.example.com", "-f", SENDER, "-t", RECIPIENT]
    command += ["-d"] if load.kept else []
    return subprocess.Popen([*command, f"127.0.0.1:{port}"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def own_source(
    port: int, load: Load, count: int, secrets: Secrets | None = None, domains: Path | None = None
) -> "subprocess.Popen[bytes]":
    """A `bench.client`, which does what smtp-source cannot; returns when it is about to begin."""
    command = [sys.executable, "-m", "bench.client", str(port), "--count", str(count), "--size", str(load.size)]
    command += ["--sessions", str(load.sessions)] + (["--kept"] if load.kept else [])
    if load.secure:
        assert secrets is not None
        command += ["--user", secrets.user, "--password-file", str(secrets.password_file)]
    command += ["--domains", str(domains)] if domains else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[1])
    assert process.stdout is not None
    process.stdout.readline()
    return process


def finish(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Wait for a load generator's end. Raises `BenchError` if it met an unexpected reply."""
    try:
        _, complaint = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise BenchError(f"the load generator did not end within {seconds:g} s") from None
    if process.returncode:
        raise BenchError(f"the load generator failed: {complaint.decode(errors='replace').strip()[-500:]}")
