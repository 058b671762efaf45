"""Whose file and folder it is: refused without a change when not ours."""

import asyncio
import os
import sqlite3
import subprocess
import sys

import pytest

from relay_queue.model import Selection
from relay_queue.protocol import QueueError, QueueVersionError
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.sqlite.connect import APPLICATION_ID, FILE_NAME
from relay_queue.sqlite.sql import migrations
from tests.support.queues import a_put
from tests.support.releases import copy_of

OPEN_AND_CLOSE = """
import sys, pathlib
from relay_queue.sqlite import open_admin
open_admin(pathlib.Path(sys.argv[1])).close()
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    open_admin(folder).close()
    return folder


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refused(folder, error):
    before = everything(folder)
    for opening in (open_admin, open_queue):
        with pytest.raises(error) as raised:
            opening(folder)
    assert everything(folder) == before
    return str(raised.value)


def test_the_file_says_whose_it_is_and_which_version(folder):
    header = (folder / FILE_NAME).read_bytes()[:100]
    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
    assert int.from_bytes(header[60:64], "big") == len(migrations()) == 2


async def test_a_folder_of_the_first_version_is_migrated(tmp_path):
    folder = copy_of(1, tmp_path / "data")
    queue, admin = open_queue(folder), open_admin(folder)
    waiting = list(admin.select(Selection(), limit=None))
    assert len(waiting) == 20
    assert {entry.message.header_id for entry in waiting} == {None}
    assert {ended.header_id for ended in admin.ended()} == {None}
    assert list(admin.select(Selection(header_id="<new@x.test>"))) == []
    await queue.put(a_put("a@x.test", header_id="<new@x.test>"))
    assert len(list(admin.select(Selection(header_id="new@x.test")))) == 1
    assert int.from_bytes((folder / FILE_NAME).read_bytes()[60:64], "big") == len(migrations())
    admin.close()
    await queue.aclose()


def test_a_newer_version_is_refused_and_nothing_changes(folder):
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    assert "newer release" in refused(folder, QueueVersionError)


def test_a_newer_version_known_only_to_the_log_is_refused(folder, tmp_path):
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute("PRAGMA user_version = 99")
        copy = tmp_path / "copy"
        copy.mkdir(mode=0o700)
        for name, octets in everything(folder).items():
            (copy / name).write_bytes(octets)
    connection.close()
    (copy / FILE_NAME).chmod(0o600)
    (copy / f"{FILE_NAME}-shm").unlink()
    with pytest.raises(QueueVersionError):
        open_admin(copy)


def test_a_foreign_database_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    (tmp_path / "queue.lock").touch(0o600)
    assert "another program" in refused(tmp_path, QueueVersionError)


@pytest.mark.parametrize("octets", [b"From a@b.test\r\n", b"SQLite format 3\0", os.urandom(5000)])
def test_a_file_that_is_no_database_is_refused(tmp_path, octets):
    (tmp_path / FILE_NAME).write_bytes(octets)
    (tmp_path / FILE_NAME).chmod(0o600)
    (tmp_path / "queue.lock").touch(0o600)
    refused(tmp_path, QueueVersionError)


def test_an_empty_file_left_by_a_kill_is_ours(tmp_path):
    (tmp_path / FILE_NAME).touch(0o600)
    open_admin(tmp_path).close()


def test_a_database_killed_before_its_schema_is_ours(tmp_path):
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert (tmp_path / FILE_NAME).stat().st_size > 0
    open_admin(tmp_path).close()


async def test_a_second_opening_leaves_the_first_its_locks(folder):
    queue = open_queue(folder)
    open_admin(folder).close()
    # Another process, which takes itself for the last to close when it finds no lock.
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", OPEN_AND_CLOSE, str(folder)], check=True)
    put = a_put()
    await queue.put(put)
    admin = open_admin(folder)
    assert [entry.message.id for entry in admin.select(Selection())] == [put.entry.message.id]
    assert (folder / f"{FILE_NAME}-wal").stat().st_size > 0
    admin.close()
    await queue.aclose()


def test_folders_and_files_are_private(folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_that_others_can_write_is_refused(folder):
    for mode in (0o770, 0o707):
        folder.chmod(mode)
        assert "chmod go-w" in refused(folder, QueueError)


def test_a_folder_that_is_a_link_is_refused(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(QueueError, match="symbolic link"):
        open_admin(link)


def test_a_database_that_is_a_link_or_writable_is_refused(folder, tmp_path):
    (folder / FILE_NAME).chmod(0o620)
    with pytest.raises(QueueError, match="written by others"):
        open_admin(folder)
    (folder / FILE_NAME).rename(tmp_path / "real.db")
    (folder / FILE_NAME).symlink_to(tmp_path / "real.db")
    with pytest.raises(QueueError, match="not a plain file"):
        open_admin(folder)


def test_a_body_folder_that_others_can_write_is_refused(folder):
    (folder / "bodies").chmod(0o777)
    with pytest.raises(QueueError, match="bodies"):
        open_admin(folder)
