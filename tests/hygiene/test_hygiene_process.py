"""The process: its files are private, its secrets nowhere to be read, its log cannot be forged."""

import asyncio
import base64
import json
import os
import pwd
import stat
from pathlib import Path

import pytest

from relay.process.privileges import drop
from tests.support.running import Relay
from tests.support.whole import CHOSEN, PASSWORD, PERSON, USER, Whole, plain, secure, whole

SMARTHOST_SECRET = "smart-host-s3cret-word"


@pytest.fixture(name="session", scope="module")
def _session(tmp_path_factory: pytest.TempPathFactory):
    """A relay after a session of all kinds: logins good and bad by both mechanisms, mail in, mail out with AUTH."""
    folder = tmp_path_factory.mktemp("session")
    secret = folder / "smarthost.password"
    secret.write_text(SMARTHOST_SECRET + "\n")
    secret.chmod(0o600)
    script = {"users": {"up": SMARTHOST_SECRET}, "starttls": True}
    with whole(folder, script=script, log={"level": "debug"}) as relay:
        relay.write_settings(
            route=[
                {
                    "domains": ["*"],
                    "relay_host": f"127.0.0.1:{relay.receiver.port}",
                    "tls": "required",
                    "user": "up",
                    "password_file": str(secret),
                }
            ]
        )
        asyncio.run(_talk(relay))
        yield relay


async def _talk(relay: Whole) -> None:
    await relay.stop()
    await relay.start()
    for user, password in ((USER, PASSWORD), (PERSON, CHOSEN), (PERSON, CHOSEN + " not quite")):
        async with relay.client("submit", stranger=True) as client:
            # A client that does not wait for TLS.
            assert await client.code("EHLO c.test") == 250
            assert await client.code(f"AUTH PLAIN {plain(user, password)}") == 538
        async with relay.client("implicit", stranger=True) as client:
            assert await client.code("EHLO c.test") == 250
            await client.say("AUTH LOGIN")
            await client.say(base64.b64encode(user.encode()).decode())
            await client.say(base64.b64encode(password.encode()).decode())
            await client.say(f"AUTH PLAIN {plain(user, password)} {plain(user, password)}")
            # A client that lost its place in the exchange.
            await client.say(base64.b64encode(password.encode()).decode())
            await client.say(plain(user, password))
            await client.say(f"auth plain {plain(user, password)}")
            await client.say(f"AUTH  PLAIN {plain(user, password)}")
            await client.say(f"AUTH\tPLAIN {plain(user, password)}")
    async with relay.user() as client:
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code("RCPT TO:<secret@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        assert await client.code(b"From: <app@sender.test>\r\n\r\nx\r\n.\r\n") == 250
    await relay.took("secret")


def needles() -> list[bytes]:
    """Every secret of the session, plain and in base64 however it is cut."""
    words = [PASSWORD, CHOSEN, SMARTHOST_SECRET]
    found = [word.encode() for word in words]
    for word in words:
        found += [base64.b64encode(word.encode()).rstrip(b"=")[:-1]]
    for user, word in ((USER, PASSWORD), (PERSON, CHOSEN), ("up", SMARTHOST_SECRET)):
        found.append(plain(user, word).rstrip("=")[:-1].encode())
    return found


async def test_secrets_are_in_no_log_event_or_error(session: Whole):
    outputs = {"log": session.log.encode()}
    for arguments in (
        ["events", "--json"],
        ["events"],
        ["user", "list", "--json"],
        ["check"],
        ["queue", "list", "--json"],
    ):
        done = await asyncio.to_thread(session.run, *arguments)
        outputs[" ".join(arguments)] = done.stdout + done.stderr
    for path in session.data_dir.rglob("*"):
        if path.is_file():
            outputs[str(path)] = path.read_bytes()
    assert b"authenticated" in outputs["log"]
    for name, octets in outputs.items():
        for needle in needles():
            assert needle not in octets, (name, needle)


def test_secrets_are_not_on_a_command_line_or_in_the_environment(session: Whole):
    assert session.process is not None
    for pid in [session.process.pid, *session.workers()]:
        for name in ("cmdline", "environ"):
            octets = Path(f"/proc/{pid}/{name}").read_bytes()
            assert not any(needle in octets for needle in needles())


async def test_a_key_that_cannot_be_read_is_told_without_its_text(tmp_path: Path):
    key = tmp_path / "broken.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\nTOPSECRETTOPSECRET\n-----END PRIVATE KEY-----\n")
    key.chmod(0o600)
    relay = Relay(tmp_path, {"dkim": {"sender.test": {"selector": "a", "key": str(key)}}})
    for command in ("check", "serve"):
        done = await asyncio.to_thread(relay.run, command)
        assert done.returncode == 1
        assert str(key).encode() in done.stdout + done.stderr
        assert b"TOPSECRET" not in done.stdout + done.stderr


def test_the_data_folder_is_private(session: Whole):
    for path in [session.data_dir, *session.data_dir.rglob("*")]:
        mode = path.lstat().st_mode
        assert not stat.S_ISLNK(mode), path
        if stat.S_ISDIR(mode):
            assert stat.S_IMODE(mode) == 0o700, path
        else:
            # Sockets too: their folder is closed, and so are they.
            assert stat.S_IMODE(mode) & 0o077 == 0, (path, oct(mode))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
async def test_a_folder_that_others_can_write_is_refused(tmp_path: Path, mode: int):
    relay = Relay(tmp_path, {})
    relay.data_dir.mkdir()
    relay.data_dir.chmod(mode)
    done = await asyncio.to_thread(relay.run, "serve")
    assert done.returncode == 1
    assert b"data" in done.stderr


async def test_a_folder_that_is_a_link_is_refused(tmp_path: Path):
    relay = Relay(tmp_path, {})
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    relay.data_dir.symlink_to(tmp_path / "elsewhere")
    done = await asyncio.to_thread(relay.run, "serve")
    assert done.returncode == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_hostile_files_in_the_data_folder_stop_nothing(tmp_path: Path):
    """What others could have left there: links, odd names, empty and foreign bodies."""
    manager = whole(tmp_path)
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        await relay.stop()
        bodies = relay.data_dir / "bodies"
        shelf = bodies / "zz"
        shelf.mkdir(mode=0o700)
        (shelf / "..%2f..%2fetc").write_bytes(b"x")
        (shelf / ("n" * 200)).write_bytes(b"")
        (shelf / "\u202e\n\x1b[31m").write_bytes(b"x")
        outside = tmp_path / "outside"
        outside.write_text("not ours")
        (shelf / "link").symlink_to(outside)
        (relay.data_dir / "run" / "queue-failed-x\n").write_text("\x1b[31m")
        (relay.data_dir / "events" / "nonsense").write_text("x")
        await relay.start()
        token = relay.token()
        async with relay.user() as client:
            assert await client.code("MAIL FROM:<app@sender.test>") == 250
            assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
            assert await client.code("DATA") == 354
            assert await client.code(b"From: <app@sender.test>\r\n\r\nx\r\n.\r\n") == 250
        await relay.took(token)
        assert outside.read_text() == "not ours"
        assert "Traceback" not in relay.log
        assert "\x1b" not in relay.log
        done = await asyncio.to_thread(relay.run, "check")
        assert b"\x1b" not in done.stdout
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


FORGERIES = [
    b"EHLO x\nts=2030-01-01 event=accepted",
    b"EHLO x\r\nMAIL FROM:<a@b.test> event=delivered id=forged",
    b"NOOP \xe2\x80\xae\xe2\x80\xa8event=delivered",
    b"FOO \x1b[2J\x1b[31mred",
    b'MAIL FROM:<"x event=delivered to=y"@b.test>',
    b'RCPT TO:<"\\"\\\\ event=accepted"@b.test>',
    b"\xffevent=delivered",
]


@pytest.mark.parametrize("fmt", ["logfmt", "json"])
async def test_no_client_forges_a_line(tmp_path: Path, fmt: str):
    manager = whole(tmp_path, log={"format": fmt})
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        for forgery in FORGERIES:
            async with relay.client("open", stranger=True) as client:
                client.send(forgery + b"\r\n")
                await client.reply()
                await client.say("QUIT")
        async with relay.client("submit", stranger=True) as client:
            await secure(client)
            assert await client.code("EHLO c.test") == 250
            name = base64.b64encode(b'\0x" event=accepted id=forged\0pass').decode()
            assert await client.code(f"AUTH PLAIN {name}") == 535
        await relay.stop()
        lines = relay.log.split("\n")
        assert len(lines) > len(FORGERIES)
        for line in lines:
            assert line.isprintable(), line
            if not line:
                continue
            event = json.loads(line)["event"] if fmt == "json" else unquoted(line)["event"]
            assert event not in {"accepted", "delivered"}, line
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def unquoted(line: str) -> dict[str, str]:
    """The fields of a logfmt line, read as strictly as it is written: a name once."""
    fields: dict[str, str] = {}
    at = 0
    while at < len(line):
        name, _, rest = line[at:].partition("=")
        if rest.startswith('"'):
            end = 1
            while rest[end] != '"':
                end += 2 if rest[end] == "\\" else 1
            value = rest[1:end]
            at += len(name) + 1 + end + 2
        else:
            value = rest.partition(" ")[0]
            at += len(name) + 1 + len(value) + 1
        assert name.replace("_", "").isalnum(), (name, line)
        fields.setdefault(name, value)
    return fields


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_is_given_up_for_good():
    nobody = pwd.getpwnam("nobody")

    def child() -> int:
        drop("nobody")
        status = Path("/proc/self/status").read_text()
        ids = [line.split()[1:] for line in status.splitlines() if line.startswith(("Uid:", "Gid:"))]
        if ids != [[str(nobody.pw_uid)] * 4, [str(nobody.pw_gid)] * 4] or "CapEff:\t0000000000000000" not in status:
            return 2
        if 0 in os.getgroups():
            return 3
        try:
            os.setuid(0)
        except PermissionError:
            return 0
        return 4

    pid = os.fork()
    if not pid:
        os._exit(child())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
