"""What keeps the relay from starting, in words."""

import errno
import os
import pwd
import sqlite3

import pytest

from relay.process.failures import explain, program_readable
from relay_queue.protocol import QueueError, QueueFullError, QueueVersionError
from relay_queue.sqlite.faults import as_queue_error


def os_error(number: int, name: str | None = "/d/queue.lock") -> OSError:
    return OSError(number, os.strerror(number), name) if name else OSError(number, os.strerror(number))


def sqlite_error(code: int, text: str) -> sqlite3.Error:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "what", "remedy"),
    [
        (os_error(errno.ENOSPC), "/d/queue.lock: no room", "free some"),
        (os_error(errno.ENOSPC, None), "no room", "free some"),
        (os_error(errno.EDQUOT), "quota", "free some"),
        (os_error(errno.EFBIG), "may not grow", "ulimit -f"),
        (os_error(errno.EROFS), "read-only", "mount"),
        (os_error(errno.ELOOP), "symbolic link", "name the file"),
        (os_error(errno.EISDIR), "a folder in the place of a file", "move it away"),
        (os_error(errno.ENOTDIR), "not a folder", "name another"),
        (os_error(errno.EMFILE), "files may be open", "LimitNOFILE"),
        (os_error(errno.ENFILE), "files may be open", "LimitNOFILE"),
        (os_error(errno.EAGAIN, None), "processes or threads", "TasksMax"),
        (os_error(errno.ENOMEM, None), "not enough memory", "workers"),
        (os_error(errno.EIO), "/d/queue.lock: Input/output error", ""),
        (MemoryError(), "not enough memory", "workers"),
        (RuntimeError("can't start new thread"), "processes or threads", "ulimit -u"),
        (QueueVersionError("q is of schema version 99"), "schema version 99", ""),
        (QueueFullError("x"), "no room", "free some"),
        (QueueError("d is a symbolic link"), "the queue: d is a symbolic link", ""),
        (as_queue_error(os_error(errno.ENOSPC), "opening"), "/d/queue.lock: no room", "free some"),
        (as_queue_error(MemoryError(), "writing"), "not enough memory", "workers"),
        (as_queue_error(sqlite_error(sqlite3.SQLITE_CORRUPT, "malformed"), "reading"), "damaged", "salvage"),
        (as_queue_error(sqlite_error(sqlite3.SQLITE_NOTADB, "no database"), "reading"), "damaged", "salvage"),
        (as_queue_error(sqlite_error(sqlite3.SQLITE_BUSY, "locked"), "opening"), "another program", "end it"),
        (as_queue_error(sqlite_error(sqlite3.SQLITE_CANTOPEN, "unable"), "opening"), "cannot be opened", "rights"),
        (as_queue_error(sqlite_error(sqlite3.SQLITE_FULL, "full"), "opening"), "no room", "free some"),
    ],
)
def test_a_failure_in_words(error, what, remedy):
    explained = explain(error)
    assert what in explained.what
    assert remedy in explained.remedy
    assert str(explained) == (f"{explained.what}; {explained.remedy}" if explained.remedy else explained.what)


def test_a_fault_of_the_program_is_not_explained():
    assert explain(KeyError("x")) is None
    assert explain(RuntimeError("x")) is None
    assert explain(AssertionError("x")) is None


def test_a_denied_file_names_its_owner(tmp_path):
    me = pwd.getpwuid(os.geteuid()).pw_name
    path = tmp_path / "file"
    path.touch()
    mine = explain(os_error(errno.EACCES, str(path)))
    assert mine.what == f"{path}: permission denied to {me}, who owns it"
    assert mine.remedy == f"run: chmod u+rwX {path}"
    missing = explain(os_error(errno.EACCES, str(tmp_path / "none" / "x")))
    assert str(tmp_path) in missing.remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_to_be_given_away(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    denied = explain(os_error(errno.EPERM, str(path)))
    assert "it belongs to nobody, and this runs as root" in denied.what
    assert denied.remedy == f"run this as nobody or root, or give it away: chown root {path}"


def test_a_deleted_current_folder_is_named(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "current folder" in explain(os_error(errno.ENOENT, None)).what
    monkeypatch.chdir(tmp_path)
    assert "current folder" not in explain(os_error(errno.ENOENT, None)).what


def test_this_program_can_be_read():
    assert program_readable()
