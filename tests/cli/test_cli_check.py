"""`relay check`."""

import os
import pickle
import pwd
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.process.lock import acquire
from relay.submission.disk import free_and_needed
from relay_config.load import load
from relay_queue.model import Integrity
from relay_queue.sqlite import open_admin
from relay_queue.sqlite.admin import SqliteAdmin
from tests.support.mail import message_put
from tests.support.running import free_port
from tests.support.shell import SETTINGS, Ran, Shell, run

LISTENER = f'[[listener]]\naddress = "127.0.0.1:{free_port()}"\ntls = "none"\nauth = "off"\n'
TRUSTED = '[submission]\ntrusted_networks = ["127.0.0.0/8"]\n'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, SETTINGS + LISTENER + TRUSTED)


def test_all_is_well(shell):
    ran = shell.run("check")
    assert (ran.code, ran.out) == (0, f"{shell.settings}: all is well.\n")
    assert list(shell.data_dir.iterdir()) == [], "a check makes nothing"


def test_a_fresh_sandbox_is_well(tmp_path):
    assert run("init", "--sandbox", str(tmp_path / "x")).code == 0
    settings = tmp_path / "x" / "relay.toml"
    settings.write_text(re.sub(r"127\.0\.0\.1:2\d+", lambda _: f"127.0.0.1:{free_port()}", settings.read_text()))
    ran = run("-c", str(tmp_path / "x" / "relay.toml"), "check")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith("all is well.\n")


def test_every_problem_at_once(tmp_path):
    shell = Shell(tmp_path, 'hostname = 3\nworkers = "many"\ndata_dir = "data"\nnonsense = 1\n')
    ran = shell.run("check")
    assert ran.code == 1
    for key in ("hostname", "workers", "nonsense"):
        assert any(f": {key}: " in line for line in ran.lines), key
    assert ran.lines[-1] == f"{shell.settings}: 3 problems, 0 warnings."
    assert {record["key"] for record in shell.run("check", "--json").records} == {"hostname", "workers", "nonsense"}


def test_a_missing_file_is_a_problem(tmp_path):
    ran = run("-c", str(tmp_path / "none.toml"), "check")
    assert ran.code == 1
    assert "no such file" in ran.out


def test_no_users_is_a_warning(tmp_path):
    shell = Shell(tmp_path, SETTINGS + LISTENER.replace("off", "required") + "plaintext_auth = true\n")
    ran = shell.run("check")
    assert ran.code == 0
    assert "no users" in ran.out
    assert [record["severity"] for record in shell.run("check", "--json").records] == ["warning"]
    shell.run("user", "add", "app", "--sender", "*")
    assert shell.run("check").lines[-1].endswith("all is well.")


def test_damaged_users_are_a_problem(tmp_path):
    shell = Shell(tmp_path, SETTINGS + LISTENER.replace("off", "required") + "plaintext_auth = true\n")
    (shell.data_dir / "users.json").write_text("{")
    ran = shell.run("check")
    assert ran.code == 1
    assert "users.json" in ran.out


def test_a_folder_that_others_may_change_is_a_problem(shell):
    shell.data_dir.chmod(0o770)
    ran = shell.run("check")
    assert ran.code == 1
    assert f"chmod 0700 {shell.data_dir}" in ran.out


def test_another_owner_is_a_problem(tmp_path):
    shell = Shell(tmp_path, SETTINGS + 'user = "daemon"\n' + LISTENER + TRUSTED)
    ran = shell.run("check")
    assert ran.code == 1
    assert "chown -R daemon" in ran.out


def test_a_queue_that_cannot_be_opened_is_a_problem(shell):
    admin = open_admin(shell.data_dir)
    admin.put(message_put("b@x.test"))
    admin.close()
    assert shell.run("check").code == 0
    (shell.data_dir / "queue.db").write_bytes(b"no database at all" * 100)
    for name in ("queue.db-wal", "queue.db-shm"):
        (shell.data_dir / name).unlink(missing_ok=True)
    ran = shell.run("check")
    assert ran.code == 1
    assert "queue.db" in ran.out


def a_queue(shell: Shell) -> Path:
    """A queue of some pages, all of them in the database; its path."""
    admin = open_admin(shell.data_dir)
    for n in range(60):
        admin.put(message_put(f"b{n}@x.test"))
    admin.close()
    path = shell.data_dir / "queue.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path


def test_damaged_pages_are_problems(shell):
    path = a_queue(shell)
    with sqlite3.connect(path) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'recipient'").fetchone()
    connection.close()
    with path.open("r+b") as file:
        # A cell pointer in the middle of the page leads nowhere: ordinary reading passes by.
        file.seek((page - 1) * 4096 + 12)
        file.write(b"\xff\xff")
    ran = shell.run("check")
    assert ran.code == 1
    assert ran.lines[0].startswith(f"{path}: ")
    assert "damaged" in ran.out
    assert {record["severity"] for record in shell.run("check", "--json").records} == {"problem"}


def test_a_queue_that_cannot_be_examined_in_time_is_a_note(shell, monkeypatch):
    a_queue(shell)
    monkeypatch.setattr(SqliteAdmin, "integrity", lambda *_: Integrity(faults=(), whole=False))
    ran = shell.run("check")
    assert ran.code == 0
    assert ran.lines[0].startswith(
        f"note: {shell.data_dir}/queue.db: too large to be examined for damage in 10 seconds"
    )
    assert ran.lines[1] == f"{shell.settings}: all is well."


def test_examining_a_queue_ends_in_time(shell):
    a_queue(shell)
    admin = SqliteAdmin(shell.data_dir)
    assert admin.integrity(60.0) == Integrity(faults=(), whole=True)
    # As when the time is up: SQLite gives up at its next step.
    admin._connection.set_progress_handler(lambda: 1, 1)
    assert admin.integrity(60.0) == Integrity(faults=(), whole=False)
    admin._connection.set_progress_handler(None, 0)
    assert admin.integrity(60.0).whole
    admin.close()


@pytest.mark.parametrize("made", [True, False])
def test_a_disk_without_room_is_a_problem(tmp_path, made):
    shell = Shell(tmp_path, SETTINGS + LISTENER + TRUSTED + '[limits]\nfree_disk = "900000GiB"\n')
    if not made:
        shell.data_dir.rmdir()
    ran = shell.run("check")
    assert ran.code == 1
    assert "are free on its disk, and mail is accepted only with" in ran.out
    assert "limits.free_disk" in ran.out


def test_the_default_for_free_disk_is_that_of_submission(tmp_path):
    shell = Shell(tmp_path)
    settings = load(shell.settings, {})
    disk = os.statvfs_result((4096, 4096, 10**7, 0, 10**5, 0, 0, 0, 0, 255))
    assert free_and_needed(settings, disk) == (10**5 * 4096, 0.02 * 10**7 * 4096)
    small = os.statvfs_result((4096, 4096, 10**5, 0, 10**5, 0, 0, 0, 0, 255))
    assert free_and_needed(settings, small)[1] == 1.5 * settings.submission.max_message_size


@pytest.mark.parametrize("name", ["queue.lock", "writer.lock", "users.json", "run/lock", "events", "bodies"])
def test_links_in_the_place_of_files_are_problems(shell, name):
    (shell.data_dir / name).parent.mkdir(mode=0o700, exist_ok=True)
    (shell.data_dir / name).symlink_to("/nowhere")
    ran = shell.run("check")
    assert ran.code == 1
    assert f"{shell.data_dir / name}: found a symbolic link" in ran.out


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_another_user_are_problems(shell):
    a_queue(shell)
    for name in ("queue.db", "events"):
        (shell.data_dir / name).mkdir(exist_ok=True) if name == "events" else None
        os.chown(shell.data_dir / name, pwd.getpwnam("nobody").pw_uid, -1)
    ran = shell.run("check")
    assert ran.code == 1
    for name in ("queue.db", "events"):
        assert f"{shell.data_dir / name}: belongs to nobody, and the data folder to root" in ran.out
    assert f"run: chown -R root: {shell.data_dir}" in ran.out


def test_a_folder_that_is_closed_to_its_owner_is_a_problem(shell):
    shell.data_dir.chmod(0o500)
    ran = shell.run("check")
    assert ran.code == 1
    assert f"chmod 0700 {shell.data_dir}" in ran.out


def as_another(work: Callable[[], Ran]) -> Ran:
    """Run in a process of its own: there is no way back from becoming another user."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, pickle.dumps(work()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        ran = pickle.loads(answer.read())
    os.waitpid(child, 0)
    assert isinstance(ran, Ran)
    return ran


@pytest.fixture
def reachable():
    """A folder that other users can reach, as pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="relay-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_a_worker_that_stopped_writing_is_a_problem(shell):
    open_admin(shell.data_dir).close()
    (shell.data_dir / "run").mkdir(mode=0o700, exist_ok=True)
    marker = shell.data_dir / "run" / "queue-failed-3"
    marker.write_text("disk I/O error \x1b[31m\n")
    ran = shell.run("check")
    assert (ran.code, ran.lines[0][:8]) == (0, "warning:"), "of a server that has ended it is history"
    lock = acquire(shell.data_dir)
    try:
        ran = shell.run("check")
    finally:
        lock.release()
    assert ran.code == 1
    assert "worker 3 stopped writing to the queue: disk I/O error" in ran.lines[0]
    assert "restart the relay" in ran.lines[0]
    assert "\x1b" not in ran.out


def test_root_works_as_the_folders_owner(reachable, shell, monkeypatch):
    args = ("suspend", "add", "--domain", "x.test")
    assert shell.run(*args).code == 0, "everything is imported now: the other user may not read the interpreter's files"
    other = Shell(reachable, SETTINGS + LISTENER + TRUSTED)
    owner = pwd.getpwnam("nobody")
    os.chown(other.data_dir, owner.pw_uid, owner.pw_gid)
    monkeypatch.setattr("relay.cli.context.program_readable", lambda: True)
    assert as_another(lambda: other.run(*args)).code == 0
    made = list(other.data_dir.rglob("*"))
    assert made
    assert {path.stat().st_uid for path in made} == {owner.pw_uid}


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_a_program_that_the_owner_cannot_read_is_a_sentence(reachable, shell, monkeypatch):
    assert shell.run("suspend", "list").code == 3
    other = Shell(reachable, SETTINGS + LISTENER + TRUSTED)
    owner = pwd.getpwnam("nobody")
    os.chown(other.data_dir, owner.pw_uid, owner.pw_gid)
    monkeypatch.setattr("relay.cli.context.program_readable", lambda: False)
    ran = as_another(lambda: other.run("suspend", "list"))
    assert ran.code == 1
    assert "nobody, who owns" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_lock_of_a_server_started_by_root_can_be_read_by_the_folders_owner(reachable):
    owner = pwd.getpwnam("nobody")
    os.chown(reachable, owner.pw_uid, owner.pw_gid)
    with acquire(reachable):
        assert (reachable / "run" / "lock").stat().st_uid == owner.pw_uid
