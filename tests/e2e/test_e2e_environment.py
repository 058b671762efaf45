"""A relay without a settings file: the server and every command take all settings from the environment."""

import asyncio
import json
import signal
import socket
import subprocess
import sys

from tests.support.running import CLEAN, free_port, until
from tests.support.world import World, submit


class Container:
    """A folder without a settings file, and an environment."""

    def __init__(self, world: World, **variables: str) -> None:
        self.folder = world.folder
        self.environment = CLEAN | variables

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "relay", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    async def command(self, *arguments: str, code: int = 0) -> str:
        done = await asyncio.to_thread(self.run, *arguments)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def serve(self) -> subprocess.Popen[bytes]:
        with (self.folder / "stderr.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "relay", "serve"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return (self.folder / "stderr.log").read_text()


async def test_server_and_commands_need_no_file(world: World):
    port = free_port()
    mx = await world.mx("example.test")
    container = Container(
        world,
        RELAY_HOSTNAME="relay.test",
        RELAY_DATA_DIR="data",
        RELAY_WORKERS="1",
        RELAY_LISTENER__0__ADDRESS=f"127.0.0.1:{port}",
        RELAY_LISTENER__0__TLS="none",
        RELAY_LISTENER__0__AUTH="optional",
        RELAY_SUBMISSION__TRUSTED_NETWORKS="127.0.0.0/8, ::1/128",
        RELAY_DNS__NAMESERVERS=world.dns.address,
        RELAY_DELIVERY=json.dumps({"port": world.port, "prohibited_networks": [], "ipv6": False}),
        RELAY_THROTTLE__SITE='{"*.hosts.test": {"rate": "50/s"}}',
        RELAY_SERVICE_HOST="10.0.0.1",
    )
    assert "the environment: all is well." in await container.command("check")
    process = container.serve()
    try:
        await until(lambda: "worker ready" in container.log)
        queue_id = await asyncio.to_thread(
            submit, port, "a@sender.test", ["someone@example.test"], b"From: a@sender.test\r\n\r\nhi\r\n"
        )
        await mx.wait(1)
        assert "someone@example.test" in await container.command("events", "--id", queue_id)
        await container.command("user", "add", "app", "--generate", "--sender", "sender.test")
        assert "app" in await container.command("user", "list")
        await container.command("queue", "summary", code=3)
        await container.command("suspend", "add", "--domain", "example.test")
        said = await container.command("dkim", "generate", "sender.test", "--selector", "one")
        (line,) = [line for line in said.splitlines() if line.startswith("RELAY_DKIM=")]
        container.environment["RELAY_DKIM"] = line.partition("=")[2]
        assert "one._domainkey.sender.test" in await container.command("dkim", "dns")
        await container.command("reload")
        await until(lambda: "what=reloaded" in container.log)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    finally:
        process.kill()


async def test_mistakes_name_the_variable(world: World):
    container = Container(world, RELAY_WORKERS="many", RELAY_LISTENER__0__TLS="none")
    for command in ("check", "serve"):
        said = await container.command(command, code=1)
        assert "environment: RELAY_WORKERS:" in said
        assert "environment: RELAY_HOSTNAME: not set" in said
        assert "environment: RELAY_LISTENER__0__ADDRESS: not set" in said


async def test_a_port_in_use_names_the_variable(world: World):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        container = Container(
            world,
            RELAY_HOSTNAME="relay.test",
            RELAY_DATA_DIR="data",
            RELAY_LISTENER__0__ADDRESS=address,
            RELAY_LISTENER__0__TLS="none",
            RELAY_LISTENER__0__AUTH="off",
        )
        said = await container.command("check", code=1)
        assert f'environment: RELAY_LISTENER__0__ADDRESS: found "{address}": the port is in use' in said
        assert f"cannot listen on {address}" in await container.command("serve", code=1)


async def test_a_sandbox_without_a_file_shows_commands_without_one(world: World):
    container = Container(
        world,
        RELAY_HOSTNAME="relay.test",
        RELAY_DATA_DIR="data",
        RELAY_WORKERS="1",
        RELAY_LISTENER__0__ADDRESS=f"127.0.0.1:{free_port()}",
        RELAY_LISTENER__0__TLS="none",
        RELAY_LISTENER__0__AUTH="optional",
        RELAY_SUBMISSION__TRUSTED_NETWORKS="127.0.0.0/8",
        RELAY_SANDBOX__RECEIVER=f"127.0.0.1:{free_port()}",
    )
    process = container.serve()
    try:
        await until(lambda: "worker ready" in container.log)
        assert "\n  relay sandbox list\n" in container.log
        assert f"{container.environment['RELAY_LISTENER__0__ADDRESS']}  no TLS, no password" in container.log
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 30)
