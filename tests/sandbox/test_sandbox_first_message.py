"""What a new user does: `relay init --sandbox`, `relay serve`, then the commands that are shown, as they are shown."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dkim
import pytest

from relay.message.dkim.keys import SigningKey, record, record_name
from relay.message.dkim.keys import load as load_key
from relay_config.load import load
from tests.support.running import CLEAN, free_port

PORTS = ("2525", "2587", "2465", "2599")


class Sandbox:
    """A sandbox made by `relay init`, on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "relay.toml"
        # As after an installation: the commands shown name the program by its path.
        (folder / "bin").mkdir()
        self.program = folder / "bin" / "relay"
        self.program.write_text(f"#!{sys.executable}\nfrom relay.cli import main\nmain()\n")
        self.program.chmod(0o755)
        subprocess.run(
            [self.program, "init", "--sandbox", folder], env=CLEAN, check=True, capture_output=True, timeout=60
        )
        self.ports = {port: str(free_port()) for port in PORTS}
        text = self.settings.read_text()
        for port, ours in self.ports.items():
            text = text.replace(f":{port}", f":{ours}")
        self.settings.write_text(text)
        self.start()

    def start(self) -> None:
        with (self.folder / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [self.program, "-c", self.settings, "serve"], stdout=out, stderr=out, env=CLEAN, start_new_session=True
            )

    @property
    def shown(self) -> str:
        return (self.folder / "out").read_text()

    def command(self, begin: str) -> str:
        """A command that the relay showed at its start: from a line that begins so to the next blank one."""
        lines = self.shown.split("\n")
        start = next(n for n, line in enumerate(lines) if line.strip().startswith(begin))
        return "\n".join(lines[start : lines.index("", start)])

    async def bash(self, command: str) -> str:
        def work() -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["/bin/bash", "-c", command], capture_output=True, text=True, env=CLEAN, timeout=60, check=False
            )

        done = await asyncio.to_thread(work)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def arrived(self, count: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(30):
            while True:
                out = await self.bash(
                    self.command(f"{self.program} -c {self.settings} sandbox").split("\n")[0] + " --json || [ $? = 3 ]"
                )
                found = [json.loads(line) for line in out.splitlines()]
                if len(found) >= count:
                    return found[::-1]

    def keys(self) -> dict[bytes, SigningKey]:
        """The signing keys by the names of their records."""
        settings = load(self.settings, {})
        loaded = [
            load_key(Path(entry.key).read_bytes(), "example.test", entry.selector)
            for entry in settings.dkim["example.test"]
        ]
        return {f"{record_name(key)}.".encode(): key for key in loaded}

    async def relay(self, *args: str) -> str:
        return await self.bash(" ".join([str(self.program), "-c", str(self.settings), *args]))

    async def ready(self) -> None:
        """Wait until it greets; what it shows at its start is there by then."""
        async with asyncio.timeout(60):
            while True:
                assert self.process.poll() is None, self.shown
                with contextlib.suppress(OSError):
                    for name in ("2525", "2599"):
                        reader, writer = await asyncio.open_connection("127.0.0.1", self.ports[name])
                        assert (await reader.readline()).startswith(b"220 ")
                        writer.close()
                        await writer.wait_closed()
                    return
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(self.process.wait, 60) == 0


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    sandbox = Sandbox(tmp_path)
    try:
        await sandbox.ready()
        yield sandbox
        await sandbox.stop()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(sandbox.process.pid, signal.SIGKILL)
        sandbox.process.wait(30)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_curl_command_sends_a_first_message(sandbox):
    await sandbox.bash(sandbox.command("printf"))
    [message] = await sandbox.arrived(1)
    assert message["sender"] == "app@example.test"
    assert message["recipients"] == ["you@example.test"]
    assert message["subject"] == "Hello"
    octets = (sandbox.folder / "data" / "sandbox" / f"{message['id']}.eml").read_bytes()
    assert octets.endswith(b"\r\n\r\nIt works.\r\n")
    keys = sandbox.keys()
    [rsa] = [n for n, key in enumerate(keys.values()) if key.algorithm == "rsa"]
    assert octets.count(b"DKIM-Signature:") == 2
    assert dkim.DKIM(octets).verify(idx=rsa, dnsfunc=lambda name, **_: record(keys[name]).encode())


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
async def test_the_swaks_command_sends_a_first_message(sandbox):
    await sandbox.bash(sandbox.command("swaks"))
    [message] = await sandbox.arrived(1)
    assert message["recipients"] == ["you@example.test"]


async def test_magic_recipients_take_the_whole_path(sandbox):
    compose = ("send", "--from", "app@example.test", "--subject", "x", "--body", "x")
    ids = {}
    for name in ("bounce", "defer", "greylist", "someone"):
        ids[name] = (await sandbox.relay(*compose, "--to", f"{name}@other.test")).strip()
    messages = await sandbox.arrived(2)
    by_recipient = {message["recipients"][0]: message for message in messages}
    assert by_recipient["app@example.test"]["sender"] == ""
    assert "someone@other.test" in by_recipient
    assert "450 4.2.0" in await sandbox.relay("queue", "list", ids["defer"])
    # The schedule of a sandbox is five seconds; flushing is quicker.
    await sandbox.relay("queue", "flush", ids["greylist"], "|| true")
    messages = await sandbox.arrived(3)
    assert messages[2]["recipients"] == ["greylist@other.test"]
    await sandbox.relay("queue", "drop", "--all", "--yes")
    ends = {name: json.loads(await sandbox.relay("queue", "show", "--json", ids[name]))["state"] for name in ids}
    assert ends == {"bounce": "failed", "defer": "dropped", "greylist": "delivered", "someone": "delivered"}


async def test_the_start_shows_the_ports_and_the_password_as_they_are_now(sandbox):
    shown = sandbox.command("swaks")
    first = (sandbox.folder / "data" / "sandbox" / "first-password").read_text().strip()
    assert f"--port {sandbox.ports['2587']} " in shown
    assert first in shown
    for port, ours in sandbox.ports.items():
        assert f":{ours} " in sandbox.shown or port == "2599"
        assert f":{port} " not in sandbox.shown
    changed = (await sandbox.relay("user", "passwd", "app", "--generate")).strip()
    await sandbox.stop()
    sandbox.start()
    await sandbox.ready()
    assert first not in sandbox.shown
    assert changed not in sandbox.shown
    assert "PASSWORD" in sandbox.command("swaks")
    assert "user passwd app" in sandbox.shown
    await sandbox.relay("user", "remove", "app")
    await sandbox.stop()
    sandbox.start()
    await sandbox.ready()
    assert "no user app any more" in sandbox.shown
    assert f"--port {sandbox.ports['2525']} " in sandbox.command("swaks")
    assert "--auth" not in sandbox.command("swaks")


async def test_a_message_is_shown_by_its_queue_id(sandbox):
    compose = ("send", "--from", "app@example.test", "--subject", "Gr\u00fc\u00dfe", "--body", "x")
    queue_id = (await sandbox.relay(*compose, "--to", "someone@other.test")).strip()
    bounced = (await sandbox.relay(*compose, "--to", "bounce@other.test")).strip()
    arrived = {message["recipients"][0]: message for message in await sandbox.arrived(2)}
    assert arrived["someone@other.test"]["queue_id"] == queue_id
    assert arrived["someone@other.test"]["subject"] == "Gr\u00fc\u00dfe"
    assert "Gr\u00fc\u00dfe" in await sandbox.relay("sandbox", "list")
    assert "To: someone@other.test" in await sandbox.relay("sandbox", "show", queue_id)
    notified = json.loads(await sandbox.relay("events", "--id", bounced, "--kind", "notified", "--json"))
    assert "Auto-Submitted: auto-" in await sandbox.relay("sandbox", "show", notified["dsn"])
