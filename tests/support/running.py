"""`relay serve` as a real process, with settings written for the test."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.support.ports import free_port

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}


def toml(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{toml(k)} = {toml(v)}" for k, v in value.items()) + "}"
    return "[" + ", ".join(toml(item) for item in value) + "]"


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is so, by looking again and again: other processes don't call back."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class Relay:
    """A running relay. Ports: `plain` (trusted loopback), and others as the settings say."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], plain: int = 0) -> None:
        self.folder = folder
        self.plain = plain or free_port()
        self.settings: dict[str, Any] = {
            "hostname": "relay.test",
            "data_dir": "data",
            "workers": 1,
            "listener": [{"address": f"127.0.0.1:{self.plain}", "tls": "none", "auth": "optional"}],
            "submission": {"trusted_networks": ["127.0.0.0/8"]},
        } | dict(settings)
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = dict(CLEAN)
        self.write_settings()

    @property
    def path(self) -> Path:
        """The settings file."""
        return self.folder / "relay.toml"

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def log(self) -> str:
        """What it wrote to standard error so far."""
        path = self.folder / "stderr.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def write_settings(self, **changes: Any) -> None:
        """Write the settings file, changed; at once, so that no reload reads a half of it."""
        self.settings |= changes
        new = self.folder / "relay.toml.new"
        new.write_text("".join(f"{name} = {toml(value)}\n" for name, value in self.settings.items()))
        new.replace(self.path)

    def spawn(self) -> None:
        """Start the process without waiting for it."""
        with (self.folder / "stderr.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relay", "-c", str(self.path), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    async def start(self) -> None:
        """Start it and wait until it greets."""
        self.spawn()
        await self.greeted()

    async def greeted(self) -> None:
        """Wait for a 220 on the plain port."""
        async with asyncio.timeout(30):
            while True:
                assert self.process is not None
                assert self.process.poll() is None, f"relay ended with {self.process.returncode}:\n{self.log}"
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.plain)
                    line = await reader.readline()
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
                    if line.startswith(b"220"):
                        return
                await asyncio.sleep(0.02)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the supervisor and wait for its end; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = await asyncio.to_thread(self.process.wait, 60)
        self.process = None
        return status

    def kill(self) -> None:
        """kill -9 to all of its processes."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a relay command on the same settings."""
        return subprocess.run(
            [sys.executable, "-m", "relay", "-c", str(self.path), *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=60,
            check=False,
        )

    async def command(self, *arguments: str, stdin: bytes = b"") -> str:
        """Run a relay command off the loop; its output, or an assertion about its failure."""
        done = await asyncio.to_thread(lambda: self.run(*arguments, stdin=stdin))
        assert done.returncode in (0, 3), f"{arguments}: exit {done.returncode}\n{done.stderr.decode()}"
        return done.stdout.decode()


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alive(pids: list[int]) -> bool:
    """Whether any still runs. One that has ended stays in the table until PID 1 asks for it, which may take seconds."""
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return True
    return False


@contextlib.asynccontextmanager
async def running(folder: Path, *, plain: int = 0, **settings: Any) -> AsyncIterator[Relay]:
    """A relay that greets; killed at the end, whatever happens."""
    relay = Relay(folder, settings, plain)
    try:
        await relay.start()
        yield relay
    finally:
        relay.kill()
