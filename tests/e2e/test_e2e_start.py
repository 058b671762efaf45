"""What can keep `relay serve` from starting: each is a sentence on standard error, exit 1 and never a traceback."""

import asyncio
import contextlib
import os
import pwd
import resource
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relay_queue.sqlite import open_admin
from tests.support.running import Relay, free_port, until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away and mount")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    relay = Relay(tmp_path, {"limits": {"free_disk": "1"}})
    yield relay
    relay.kill()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="relay-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def refused(relay: Relay, *wrapper: str, **more: Any) -> str:
    """Start it, which must fail; what it says."""
    done = subprocess.run(
        [*wrapper, sys.executable, "-m", "relay", "-c", str(relay.path), "serve"],
        capture_output=True,
        text=True,
        env=relay.environment,
        timeout=60,
        check=False,
        **more,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "This is a sandbox" not in done.stdout, "nobody is told how to send to a relay that does not run"
    return done.stderr


def checked(relay: Relay) -> str:
    """What `relay check` says, which must find a problem as well."""
    done = relay.run("check")
    assert done.returncode == 1, done.stdout + done.stderr
    assert b"Traceback" not in done.stderr
    return done.stdout.decode()


def children_of(relay: Relay) -> list[int]:
    """Process ids of the supervisor's children."""
    assert relay.process is not None
    path = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


@contextlib.contextmanager
def listening(port: int = 0, **options: bool) -> Iterator[int]:
    """Another program that has a port."""
    with socket.socket() as sock:
        for name in ("SO_REUSEADDR", *options):
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_port_in_use(relay):
    with listening(relay.plain):
        for said in (refused(relay), checked(relay)):
            assert f"127.0.0.1:{relay.plain}" in said
            assert f"process {os.getpid()}" in said


def test_a_port_of_another_relay_of_the_same_user(relay):
    with listening(relay.plain, SO_REUSEPORT=True):
        assert f"127.0.0.1:{relay.plain}" in refused(relay)
        assert f"127.0.0.1:{relay.plain}" in checked(relay)


def test_the_sandbox_receivers_port_in_use(relay):
    with listening() as port:
        relay.write_settings(sandbox={"receiver": f"127.0.0.1:{port}"})
        assert f"cannot listen on 127.0.0.1:{port}" in refused(relay)
        assert "sandbox.receiver" in checked(relay)


def test_an_address_that_this_machine_does_not_have(relay):
    relay.write_settings(listener=[{"address": "192.0.2.1:2525", "tls": "none", "auth": "off"}])
    for said in (refused(relay), checked(relay)):
        assert "does not have the address" in said


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_a_port_that_takes_a_privilege(relay):
    limit = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not limit.exists() or int(limit.read_text()) < 100:
        pytest.skip("everybody may listen on every port here")
    relay.write_settings(listener=[{"address": "127.0.0.1:87", "tls": "none", "auth": "off"}])
    without = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    said = refused(relay, *without)
    assert "127.0.0.1:87" in said
    assert f"ports below {limit.read_text().strip()} need root or CAP_NET_BIND_SERVICE" in said
    command = [*without, sys.executable, "-m", "relay", "-c", str(relay.path), "check"]
    done = subprocess.run(command, capture_output=True, text=True, env=relay.environment, timeout=60, check=False)
    assert done.returncode == 1
    assert "CAP_NET_BIND_SERVICE" in done.stdout


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@as_root
def test_a_data_folder_that_cannot_be_made(relay, tmp_path):
    above = tmp_path / "closed"
    above.mkdir()
    os.chown(above, pwd.getpwnam("nobody").pw_uid, -1)
    relay.write_settings(data_dir=str(above / "data"))
    without = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")
    said = refused(relay, *without)
    assert f"{above / 'data'}: permission denied ({above} belongs to nobody, and this runs as root)" in said
    command = [*without, sys.executable, "-m", "relay", "-c", str(relay.path), "check"]
    done = subprocess.run(command, capture_output=True, text=True, env=relay.environment, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot make it in {above}" in done.stdout


def _link(data: Path) -> None:
    (data.parent / "elsewhere").mkdir(mode=0o700)
    data.symlink_to(data.parent / "elsewhere")


def _file(data: Path) -> None:
    data.touch()


def _open_to_others(data: Path) -> None:
    data.mkdir()
    data.chmod(0o777)


def _open_to_a_group(data: Path) -> None:
    data.mkdir()
    data.chmod(0o770)


def _in(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Something in the data folder."""

    def made(data: Path) -> None:
        data.mkdir(mode=0o700)
        (data / name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        make(data / name)

    return made


def _newer(path: Path) -> None:
    open_admin(path.parent).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def _of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    path.chmod(0o600)


def _damaged(path: Path) -> None:
    open_admin(path.parent).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(105)
        file.write(b"\xa5" * 3000)


@pytest.mark.parametrize(
    ("make", "named", "word"),
    [
        (_link, "data", "symbolic link"),
        (_file, "data", "no folder"),
        (_open_to_others, "data", "chmod"),
        (_open_to_a_group, "data", "chmod"),
        (_in("run", Path.touch), "data/run", "folder"),
        (_in("run", lambda path: path.symlink_to("/tmp")), "data/run", "symbolic link"),
        (_in("run/lock", Path.mkdir), "data/run/lock", ""),
        (_in("queue.lock", Path.mkdir), "data/queue.lock", "place of a file"),
        (_in("writer.lock", Path.mkdir), "data/writer.lock", "place of a file"),
        (_in("bodies", Path.touch), "data/bodies", "folder"),
        (_in("queue.db", Path.mkdir), "data/queue.db", "file"),
        (_in("queue.db", lambda path: path.write_bytes(b"no database at all" * 99)), "data/queue.db", "queue of ours"),
        (_in("queue.db", _of_another_program), "data/queue.db", "another program"),
        (_in("queue.db", _newer), "data/queue.db", "schema version 99"),
        (_in("queue.db", _damaged), "data/queue.db", "damaged"),
        (_in("users.json", lambda path: path.write_text("{")), "data/users.json", "damaged"),
        (_in("users.json", Path.mkdir), "data/users.json", ""),
    ],
)
def test_something_is_wrong_in_the_data_folder(relay, tmp_path, make, named, word):
    make(relay.data_dir)
    for said in (refused(relay), checked(relay)):
        assert str(tmp_path / named) in said
        assert word in said


@as_root
def test_a_user_who_does_not_exist(relay):
    relay.write_settings(user="nosuchuser")
    for said in (refused(relay), checked(relay)):
        assert "nosuchuser" in said
        assert "useradd" in said


@pytest.mark.parametrize("place", ["missing/log", "folder", "link"])
def test_a_log_that_cannot_be_opened(relay, tmp_path, place):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    relay.write_settings(log={"destination": str(tmp_path / place)})
    for said in (refused(relay), checked(relay)):
        assert f'log.destination: found "{tmp_path / place}"' in said


def test_a_key_that_cannot_be_read(relay, tmp_path):
    relay.write_settings(dkim={"x.test": {"selector": "a", "key": str(tmp_path / "none.pem")}})
    for said in (refused(relay), checked(relay)):
        assert str(tmp_path / "none.pem") in said


@pytest.mark.parametrize("files", [14, 20])
def test_too_few_open_files(relay, files):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    said = refused(relay, preexec_fn=limit)
    assert f"no more than {files} files may be open at once" in said
    assert "LimitNOFILE" in said


def test_a_queue_that_another_program_keeps_locked(relay, monkeypatch):
    relay.data_dir.mkdir(mode=0o700)
    open_admin(relay.data_dir).close()
    connection = sqlite3.connect(relay.data_dir / "queue.db", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        assert "another program keeps the queue locked" in refused(relay)
    finally:
        connection.close()


@as_root
@pytest.mark.parametrize("options", ["size=16k", "size=60k", "size=2m,nr_inodes=3", "size=2m,ro"])
def test_a_full_or_read_only_disk(relay, options):
    relay.data_dir.mkdir(mode=0o700)
    mounted = ["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "none", str(relay.data_dir)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        said = refused(relay)
        assert ("read-only" if "ro" in options.split(",") else "no room is left on the disk") in said
        relay.write_settings(limits={"free_disk": "1MiB"})
        assert str(relay.data_dir) in checked(relay)
    finally:
        subprocess.run(["umount", str(relay.data_dir)], check=True)


@as_root
def test_a_user_who_cannot_read_the_program(reachable):
    """As where root installed it in its home."""
    relay = Relay(reachable, {})
    program = relay.folder / "program"
    program.mkdir(mode=0o700)
    for name in ("relay", "queue", "config"):
        shutil.copytree(Path(__file__).parents[2] / name, program / name, ignore=shutil.ignore_patterns("__pycache__"))
    relay.environment["PYTHONPATH"] = f"{program}:{program}/queue:{program}/config"
    relay.write_settings(user="nobody")
    assert "the user nobody cannot read Python" in refused(relay, cwd=program)


async def test_a_second_start_names_the_first(relay):
    await relay.start()
    assert relay.process is not None
    said = await asyncio.to_thread(refused, relay)
    assert f"already running on {relay.data_dir} (process {relay.process.pid})" in said


async def test_a_running_relay_is_no_problem(relay):
    await relay.start()
    assert relay.process is not None
    done = await asyncio.to_thread(relay.run, "check")
    assert done.returncode == 0, done.stdout
    note = f"note: {relay.data_dir}: a relay is running on this data folder (process {relay.process.pid})\n"
    assert done.stdout.decode() == f"{note}{relay.path}: all is well.\n"
    with listening() as port:
        listeners = [*relay.settings["listener"], {"address": f"127.0.0.1:{port}", "tls": "none", "auth": "off"}]
        relay.write_settings(listener=listeners)
        said = await asyncio.to_thread(checked, relay)
    assert f'listener[1].address: found "127.0.0.1:{port}"' in said
    assert "listener[0]" not in said


async def test_a_worker_that_cannot_start_says_why(relay):
    await relay.start()
    with sqlite3.connect(relay.data_dir / "queue.db") as connection:
        connection.execute("ALTER TABLE suspension RENAME TO other")
    connection.close()
    process = relay.process
    assert process is not None
    os.kill(children_of(relay)[0], signal.SIGKILL)
    await until(lambda: process.poll() is not None, 60)
    assert process.returncode == 1
    assert "worker 0 cannot start: the queue: reading the queue: OperationalError: no such table" in relay.log
    assert "Traceback" not in relay.log


def submit(relay: Relay, client: smtplib.SMTP | None = None) -> int:
    """The code that a message ends with: of the first command that is refused, or of its end."""
    try:
        with contextlib.nullcontext(client) if client else smtplib.SMTP("127.0.0.1", relay.plain, timeout=20) as one:
            one.sendmail("a@sender.test", ["b@rcpt.test"], b"From: a@sender.test\r\n\r\nx\r\n")
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    return 250


@pytest.mark.parametrize("how", ["deleted", "moved", "made anew"])
async def test_nothing_is_accepted_into_a_data_folder_that_is_gone(relay, tmp_path, how):
    relay.write_settings(route=[{"domains": ["*"], "relay_host": f"127.0.0.1:{free_port()}", "tls": "none"}])
    await relay.start()
    process = relay.process
    assert process is not None
    client = await asyncio.to_thread(smtplib.SMTP, "127.0.0.1", relay.plain, timeout=20)
    closing = contextlib.ExitStack()
    closing.callback(client.close)
    assert await asyncio.to_thread(submit, relay, client) == 250
    if how == "deleted":
        shutil.rmtree(relay.data_dir)
    else:
        relay.data_dir.rename(tmp_path / "elsewhere")
    if how == "made anew":
        relay.data_dir.mkdir(mode=0o700)
        open_admin(relay.data_dir).close()
    if how == "deleted":  # at once; in a folder that was moved nothing is lost
        assert 400 <= await asyncio.to_thread(submit, relay, client) < 500
        assert 400 <= await asyncio.to_thread(submit, relay) < 500
    closing.close()
    await until(lambda: 'what="queue stopped"' in relay.log)
    assert "while the relay was running; restart the relay" in relay.log
    assert 400 <= await asyncio.to_thread(submit, relay) < 500
    assert "run/queue-failed" not in relay.log, "that the marker cannot be left there is no news"
    os.kill(children_of(relay)[0], signal.SIGKILL)
    await until(lambda: process.poll() is not None, 60)
    assert process.returncode == 1
    assert f"worker 0 cannot start: {relay.data_dir} was deleted or moved away" in relay.log
    assert relay.data_dir.exists() == (how == "made anew"), "a worker makes no folder that nobody holds the lock of"
    relay.process = None


def test_a_deleted_current_folder(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && exec {sys.executable} -m relay serve"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path[1:])
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "relay: the current folder does not exist any more.\n  Change to another one.\n"


def test_a_free_port_is_left_alone(relay):
    """`relay check` binds each port for an instant, and lets it go."""
    relay.data_dir.mkdir(mode=0o700)
    relay.write_settings(listener=[{"address": f"127.0.0.1:{free_port()}", "tls": "none", "auth": "optional"}])
    for _ in range(2):
        done = relay.run("check")
        assert (done.returncode, done.stdout.decode()) == (0, f"{relay.path}: all is well.\n")
    assert list(relay.data_dir.iterdir()) == []
