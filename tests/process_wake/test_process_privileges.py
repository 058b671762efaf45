"""What root does where the relay's user can write: nothing that a planted link, file or folder could turn elsewhere."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.process import orphans
from relay.process.lock import LockError, lock_path
from relay.process.materials import MaterialError, load_keys
from relay.process.privileges import acting_as, controls, give, hand_over
from relay.process.serve import _lock, _prepare_data_dir
from relay_config.load import load
from relay_queue.folder import private_folder
from relay_queue.protocol import QueueError
from tests.support.dkim_keys import pem
from tests.support.running import alive
from tests.support.unprivileged import NAME, as_root, folder_of_nobody, nobody, reachable_folder

pytestmark = as_root
_EXCHANGE = 2
"""RENAME_EXCHANGE of renameat2(2)."""


@pytest.fixture
def place():
    with reachable_folder() as folder:
        yield folder


@pytest.fixture
def data(place: Path) -> Path:
    return folder_of_nobody(place / "data")


@pytest.fixture
def victim(place: Path) -> Path:
    """A folder of root's with a file."""
    folder = place / "victim"
    folder.mkdir()
    (folder / "kept").write_text("root's")
    return folder


def untouched(victim: Path) -> bool:
    return victim.stat().st_uid == 0 and {path.name: path.stat().st_uid for path in victim.iterdir()} == {"kept": 0}


def test_who_controls_a_path(place: Path, data: Path, victim: Path):
    link = place / "link"
    link.symlink_to(data / "dkim" / "key.pem")
    planted = place / "planted"
    planted.symlink_to(victim)
    os.chown(planted, nobody().uid, nobody().gid, follow_symlinks=False)
    shared = place / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for path in (data, data / "run", data / "dkim" / "key.pem", link, planted, planted / "kept", shared / "x"):
        assert controls(nobody(), path), path
    for path in (
        place,
        victim,
        victim / "kept",
        victim / "new",
        place / "new" / "below",
        place / "victim" / ".." / "x",
    ):
        assert not controls(nobody(), path), path
    assert controls(nobody(), Path("/tmp") / "relay-test-that-is-not-there"), "anybody may create it"
    assert not controls(nobody(), Path("/tmp") / place.name / "x"), "a sticky folder protects what belongs to root"
    (place / "round").symlink_to(place / "round")
    assert controls(nobody(), place / "round"), "when in doubt, with fewer rights"


def test_rights_come_back(place: Path):
    (place / "own").write_text("x")
    (place / "own").chmod(0o600)
    before = (os.geteuid(), os.getegid(), os.getgroups())
    with acting_as(nobody()), pytest.raises(PermissionError):
        (place / "own").read_text()
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    with acting_as(None):
        assert (place / "own").read_text() == "x"


def test_a_new_data_folder_belongs_to_the_user(place: Path):
    _prepare_data_dir(place / "data", nobody())
    lock, _ = _lock(place / "data", nobody())
    with lock:
        for path in (place / "data", place / "data" / "run", lock_path(place / "data")):
            assert path.stat().st_uid == nobody().uid, path
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_data_folder_of_roots_is_given_to_the_user(place: Path):
    (place / "data").mkdir(mode=0o700)
    hand_over(place / "data", nobody())
    assert (place / "data").stat().st_uid == nobody().uid


def test_a_folder_of_somebody_else_is_not_taken(place: Path):
    (place / "data").mkdir(mode=0o700)
    os.chown(place / "data", 12345, 12345)
    with pytest.raises(QueueError, match=r"belongs to user 12345|Permission denied"):
        hand_over(place / "data", nobody())
    assert (place / "data").stat().st_uid == 12345


def test_a_link_in_place_of_the_data_folder_gives_nothing_away(place: Path, victim: Path):
    (place / "data").symlink_to(victim)
    with pytest.raises(QueueError, match="symbolic link"):
        _prepare_data_dir(place / "data", nobody())
    home = folder_of_nobody(place / "home")
    (home / "data").symlink_to(victim)
    with pytest.raises(QueueError, match="symbolic link"):
        _prepare_data_dir(home / "data", nobody())
    (home / "data").unlink()
    (home / "data").symlink_to(victim / "new")
    with pytest.raises(QueueError):
        _prepare_data_dir(home / "data", nobody())
    assert untouched(victim)


@pytest.mark.parametrize("name", ["run", "run/lock"])
def test_links_in_the_data_folder_give_nothing_away(data: Path, victim: Path, name: str):
    for target in (victim, victim / "kept", victim / "new"):
        with acting_as(nobody()):
            (data / name).parent.mkdir(mode=0o700, exist_ok=True)
            (data / name).unlink(missing_ok=True)
            (data / name).symlink_to(target)
        with pytest.raises((QueueError, LockError)):
            _start(data)
        assert untouched(victim)
        assert (victim / "kept").read_text() == "root's"


def _start(data: Path) -> None:
    _prepare_data_dir(data, nobody())
    _lock(data, nobody())[0].release()


def test_exchanging_folders_while_root_starts_gains_nothing(data: Path, victim: Path):
    swapping = os.fork()
    if not swapping:
        _swap(data, victim)
    try:
        end = time.monotonic() + 3
        started = 0
        while time.monotonic() < end:
            try:
                _start(data)
                started += 1
            except (QueueError, LockError, OSError):
                continue
        assert started, "sometimes the folder was there"
    finally:
        os.kill(swapping, signal.SIGKILL)
        os.waitpid(swapping, 0)
    assert untouched(victim)


def _swap(data: Path, victim: Path) -> None:
    try:
        os.setgroups([])
        os.setgid(nobody().gid)
        os.setuid(nobody().uid)
        os.chdir(data)
        Path("run").mkdir(mode=0o700, exist_ok=True)
        Path("evil").symlink_to(victim)
        libc = ctypes.CDLL(None)
        while True:
            libc.renameat2(-100, b"run", -100, b"evil", _EXCHANGE)
            time.sleep(0)
    finally:
        os._exit(1)


DAEMON = """
import fcntl, os, sys, time
file = open(sys.argv[1])
fcntl.flock(file, fcntl.LOCK_EX)
if os.fork():
    os._exit(0)
print(flush=True)
time.sleep(60)
"""


def test_a_process_of_another_user_is_no_orphan(place: Path, data: Path):
    """The relay's user leads the lock to a file that a process of root's has locked."""
    (place / "daemon").mkdir()
    (place / "daemon" / "lock").write_text("")
    with acting_as(nobody()):
        (data / "run").symlink_to(place / "daemon")
    lock = place / "daemon" / "lock"
    with subprocess.Popen([sys.executable, "-c", DAEMON, str(lock)], stdout=subprocess.PIPE) as daemon:
        assert daemon.stdout is not None
        daemon.stdout.readline()
        try:
            holders = list(orphans._takers(lock))
            assert len(holders) == 1
            assert orphans.end(data, nobody().uid) == []
            assert alive(holders)
        finally:
            for pid in holders:
                os.kill(pid, signal.SIGKILL)


def test_root_reads_no_key_that_the_user_could_not_read(place: Path, data: Path):
    """The relay's user puts a link to root's key in place of its own, and would sign with it from the next start on."""
    secret = place / "root.pem"
    secret.write_bytes(pem("ed25519"))
    secret.chmod(0o600)
    (data / "dkim").mkdir()
    os.chown(data / "dkim", nobody().uid, nobody().gid)
    planted = data / "dkim" / "key.pem"
    planted.symlink_to(secret)
    settings = place / "relay.toml"

    def keys(path: Path):
        settings.write_text(
            f'hostname = "relay.example.test"\ndata_dir = "{data}"\nuser = "{NAME}"\n'
            f'[dkim."example.test"]\nselector = "a"\nkey = "{path}"\n'
        )
        return load_keys(load(settings, {}))

    with pytest.raises(MaterialError, match="Permission denied"):
        keys(planted)
    assert keys(secret) is not None, "a key that root alone controls is root's to read"


def test_giving_away_stays_in_the_folder(place: Path, victim: Path):
    made = place / "made"
    (made / "inner").mkdir(parents=True)
    (made / "inner" / "file").write_text("x")
    (made / "link").symlink_to(victim / "kept")
    (made / "folder-link").symlink_to(victim)
    give(made, nobody())
    assert {path.lstat().st_uid for path in (made, made / "inner", made / "inner" / "file", made / "link")} == {
        nobody().uid
    }
    assert untouched(victim)


def test_the_queue_is_not_opened_as_root_in_a_folder_of_somebody_else(data: Path):
    with pytest.raises(QueueError, match="belongs to user"):
        private_folder(data)


def test_a_lock_file_with_another_name_is_refused(place: Path, data: Path):
    with acting_as(nobody()):
        (data / "run").mkdir(mode=0o700)
    (place / "other").write_text("root's")
    (data / "run" / "lock").hardlink_to(place / "other")
    with pytest.raises(LockError):
        _start(data)
    assert (place / "other").read_text() == "root's"
    assert (place / "other").stat().st_uid == 0


def test_locks_still_exclude(data: Path):
    _prepare_data_dir(data, nobody())
    lock, _ = _lock(data, nobody())
    with lock, lock_path(data).open("rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
