"""Clients that people really use, each through the whole relay to the sandbox's receiver."""

import asyncio
import json
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import write_pem
from tests.support.running import Relay, free_port, running, until
from tests.support.world import message


@dataclass
class Sandbox:
    """A running sandbox with a user."""

    relay: Relay
    starttls: int
    implicit: int
    password: str
    certificate: Path

    async def arrived(self, count: int = 1) -> list[dict]:
        """What the receiver has, newest first, once there are so many."""
        got: list[dict] = []

        def enough() -> bool:
            got[:] = [json.loads(line) for line in self.relay.run("sandbox", "list", "--json").stdout.splitlines()]
            return len(got) >= count

        await asyncio.to_thread(lambda: asyncio.run(until(enough)))
        return got


@pytest.fixture(name="sandbox")
async def _sandbox(tmp_path: Path) -> AsyncIterator[Sandbox]:
    certificate, key, authority = write_pem(tmp_path)
    starttls, implicit, plain = free_port(), free_port(), free_port()
    listeners = [
        {"address": f"127.0.0.1:{plain}", "tls": "none", "auth": "optional"},
        {"address": f"127.0.0.1:{starttls}", "tls": "starttls", "auth": "required"},
        {"address": f"127.0.0.1:{implicit}", "tls": "implicit", "auth": "required"},
    ]
    settings = {
        "listener": listeners,
        "tls": {"certificate": str(certificate), "key": str(key)},
        "sandbox": {"receiver": f"127.0.0.1:{free_port()}"},
    }
    async with running(tmp_path, plain=plain, **settings) as relay:
        added = await relay.command(
            "user", "add", "app", "--sender", "example.test", "--sender", "sender.test", "--generate"
        )
        yield Sandbox(relay, starttls, implicit, added.split()[-1], authority)


def call(*command: str, stdin: bytes = b"") -> str:
    """Run a program to its end; its output, both streams."""
    done = subprocess.run(
        command, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where the program isn't installed."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


async def test_smtplib_with_starttls_and_with_tls(sandbox: Sandbox):
    def send(client: smtplib.SMTP) -> None:
        with client:
            if not isinstance(client, smtplib.SMTP_SSL):
                client.starttls(context=ssl.create_default_context(cafile=sandbox.certificate))
            client.login("app", sandbox.password)
            client.sendmail("app@example.test", ["you@example.test"], message())

    context = ssl.create_default_context(cafile=sandbox.certificate)
    await asyncio.to_thread(lambda: send(smtplib.SMTP("localhost", sandbox.starttls, timeout=30)))
    await asyncio.to_thread(lambda: send(smtplib.SMTP_SSL("localhost", sandbox.implicit, timeout=30, context=context)))
    assert len(await sandbox.arrived(2)) == 2


@needs("curl")
async def test_curl(sandbox: Sandbox):
    common = ["--user", f"app:{sandbox.password}", "--cacert", str(sandbox.certificate)]
    common += ["--mail-from", "app@example.test", "--mail-rcpt", "you@example.test", "--upload-file", "-", "-sS"]
    for url in (f"smtp://localhost:{sandbox.starttls}", f"smtps://localhost:{sandbox.implicit}"):
        await asyncio.to_thread(lambda url=url: call("curl", "--url", url, "--ssl-reqd", *common, stdin=message()))
    assert len(await sandbox.arrived(2)) == 2


@needs("swaks")
async def test_swaks(sandbox: Sandbox):
    common = ["--server", "localhost", "--auth-user", "app", "--auth-password", sandbox.password]
    common += ["--from", "app@example.test", "--to", "you@example.test,two@example.test"]
    for mechanism, port, tls in (("PLAIN", sandbox.starttls, "--tls"), ("LOGIN", sandbox.implicit, "--tlsc")):
        said = await asyncio.to_thread(
            lambda m=mechanism, p=port, t=tls: call("swaks", *common, "--auth", m, "--port", str(p), t)
        )
        assert "queued as" in said
    assert len(await sandbox.arrived(2)) == 2


@needs("msmtp")
async def test_msmtp(sandbox: Sandbox):
    said = await asyncio.to_thread(
        lambda: call(
            "msmtp",
            "--host=localhost",
            f"--port={sandbox.starttls}",
            "--tls=on",
            f"--tls-trust-file={sandbox.certificate}",
            "--auth=plain",
            "--user=app",
            f"--passwordeval=echo {sandbox.password}",
            "--from=app@example.test",
            "you@example.test",
            stdin=message().replace(b"\r\n", b"\n"),
        )
    )
    assert said == ""
    assert len(await sandbox.arrived()) == 1


@pytest.fixture(name="node_modules", scope="session")
def _node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder), "nodemailer"],
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        pytest.skip("npm could not install nodemailer")
    return folder


async def test_nodemailer(sandbox: Sandbox, node_modules: Path):
    script = Path(__file__).with_name("nodemailer.mjs")
    arguments = [str(node_modules), str(sandbox.starttls), "app", sandbox.password, str(sandbox.certificate)]
    said = await asyncio.to_thread(lambda: call("node", str(script), *arguments))
    assert "queued as" in said
    (got,) = await sandbox.arrived()
    assert sorted(got["recipients"]) == ["hidden@example.test", "one@example.test", "two@example.test"]
    shown = await sandbox.relay.command("sandbox", "show", got["id"])
    assert "hidden@" not in shown.partition("\n\n")[2]
