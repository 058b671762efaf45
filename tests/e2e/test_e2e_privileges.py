"""The relay and its commands, started as root for another user: that user owns all they make, and gains nothing."""

import asyncio
import os
import shutil
import smtplib
import subprocess
from pathlib import Path

import pytest

from tests.support.running import Relay, until
from tests.support.unprivileged import NAME, as_root, folder_of_nobody, nobody, python, reachable_folder

pytestmark = as_root


class Unprivileged(Relay):
    """A relay that root starts for an unprivileged user, with a Python which that user can run as well."""

    def __init__(self, folder: Path, **settings: object) -> None:
        super().__init__(folder, {"user": NAME, "workers": 2} | settings)
        self.python, self.environment = python()

    def spawn(self) -> None:
        with (self.folder / "stderr.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command("serve"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def shell(self, *args: str) -> subprocess.CompletedProcess[str]:
        """A command, given as root."""
        return subprocess.run(
            self._command(*args), env=self.environment, capture_output=True, text=True, check=False, timeout=60
        )

    def _command(self, *args: str) -> list[str]:
        return [self.python, "-m", "relay", "-c", str(self.path), *args]


@pytest.fixture
def place():
    with reachable_folder() as folder:
        yield folder


def send(relay: Relay, to: str) -> None:
    with smtplib.SMTP("127.0.0.1", relay.plain, timeout=20) as client:
        client.sendmail("a@sender.test", [to], "From: <a@sender.test>\r\n\r\nx\r\n")


COMMANDS = [
    ["user", "add", "app", "--sender", "sender.test"],
    ["user", "passwd", "app"],
    ["suspend", "add", "--domain", "held.test"],
    ["send", "--from", "a@sender.test", "--to", "b@held.test", "--subject", "x", "--body", "x"],
    ["queue", "list"],
    ["queue", "hold", "--domain", "held.test"],
    ["queue", "drop", "--domain", "held.test"],
    ["suspend", "remove", "--all"],
    ["dkim", "generate", "sender.test"],
    ["events"],
    ["check"],
]


async def test_what_root_and_the_relay_make_belongs_to_the_user(place: Path):
    relay = Unprivileged(place, dns={"nameservers": ["127.0.0.1:1"]})
    (place / "data").mkdir(mode=0o700)  # root's, as of an admin who made it by hand

    async def commands() -> None:
        for command in COMMANDS:
            done = await asyncio.to_thread(relay.shell, *command)
            assert done.returncode == 0, (command, done.stderr)
        foreign = [path for path in (place / "data").rglob("*") if path.lstat().st_uid != nobody().uid]
        assert foreign == []

    await commands()
    for command in (["user", "remove", "app"], ["queue", "list"]):
        await asyncio.to_thread(relay.shell, *command)
    relay.write_settings(dkim={})
    (place / "data" / "dkim").rename(place / "data" / "dkim-before")
    await relay.start()
    try:
        await asyncio.to_thread(send, relay, "before@held.test")
        await commands()
        await asyncio.to_thread(send, relay, "after@held.test")
    finally:
        await relay.stop()
    assert (place / "data").stat().st_uid == nobody().uid


async def refused(relay: Unprivileged) -> str:
    """A start that must fail."""
    await asyncio.to_thread(relay.kill)
    before = len(relay.log)
    relay.spawn()
    process = relay.process
    assert process is not None
    await until(lambda: process.poll() is not None)
    assert process.returncode == 1
    assert "Traceback" not in relay.log[before:]
    return relay.log[before:]


async def test_links_of_the_user_do_not_lead_root_elsewhere(place: Path):
    relay = Unprivileged(place)
    victim = place / "victim"
    victim.mkdir()
    for name in ("run", "bodies", "queue.db", "queue.lock", "writer.lock", "events"):
        planted = folder_of_nobody(place / "data") / name
        planted.symlink_to(victim if name in {"run", "bodies", "events"} else victim / "new")
        os.chown(planted, nobody().uid, nobody().gid, follow_symlinks=False)
        if name != "events":  # that events cannot be stored does not keep the relay from starting
            assert await refused(relay)
        for command in (["user", "add", "x", "--sender", "*"], ["suspend", "add", "--domain", "x.test"], ["check"]):
            done = await asyncio.to_thread(relay.shell, *command)
            assert "Traceback" not in done.stderr
        assert victim.stat().st_uid == 0
        assert list(victim.iterdir()) == [], name
        shutil.rmtree(place / "data")


async def test_a_log_that_the_user_links_elsewhere_is_not_written_as_root(place: Path):
    logs = folder_of_nobody(place / "logs")
    victim = place / "victim"
    victim.write_text("root's")
    relay = Unprivileged(place, log={"destination": str(logs / "relay.log")})
    for target in (victim, place / "new"):
        (logs / "relay.log").unlink(missing_ok=True)
        (logs / "relay.log").symlink_to(target)
        os.chown(logs / "relay.log", nobody().uid, nobody().gid, follow_symlinks=False)
        await refused(relay)
        assert victim.read_text() == "root's"
        assert victim.stat().st_uid == 0
        assert not (place / "new").exists()


async def test_a_linked_first_password_is_not_shown_to_the_user(place: Path):
    data = folder_of_nobody(place / "data")
    secret = place / "secret"
    secret.write_text("root's own secret")
    secret.chmod(0o600)
    relay = Unprivileged(place, sandbox={"receiver": "127.0.0.1:0"})
    (data / "sandbox").mkdir(mode=0o700)
    (data / "sandbox" / "first-password").symlink_to(secret)
    for path in (data / "sandbox", data / "sandbox" / "first-password"):
        os.chown(path, nobody().uid, nobody().gid, follow_symlinks=False)
    relay.spawn()
    await asyncio.sleep(1.5)
    await asyncio.to_thread(relay.kill)
    assert "root's own secret" not in relay.log


@pytest.mark.parametrize("name", ["data", "tls", "data/dkim", "relay.toml"])
def test_init_in_a_folder_of_the_user_follows_no_link(place: Path, name: str):
    interpreter, environ = python()
    home = folder_of_nobody(place / "home")
    victim = place / "victim"
    victim.mkdir()
    if "/" in name:
        folder_of_nobody(home / "data")
    (home / name).symlink_to(victim if "." not in name else victim / "new")
    os.chown(home / name, nobody().uid, nobody().gid, follow_symlinks=False)
    command = [interpreter, "-m", "relay", "init", "--hostname", "mail.example.test", "--user", NAME, str(home)]
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    assert victim.stat().st_uid == 0
    assert list(victim.iterdir()) == []


def test_init_in_a_folder_of_the_user_makes_everything_the_users(place: Path):
    interpreter, environ = python()
    home = folder_of_nobody(place / "home")
    command = [interpreter, "-m", "relay", "init", "--hostname", "mail.example.test", "--user", NAME, str(home)]
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {path.lstat().st_uid for path in home.rglob("*")} == {nobody().uid}


async def test_root_without_a_user_refuses_a_folder_of_somebody_else(place: Path):
    folder_of_nobody(place / "data")
    relay = Unprivileged(place)
    del relay.settings["user"]
    relay.write_settings()
    assert "belongs to user" in await refused(relay)
