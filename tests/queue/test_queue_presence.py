"""Files of the queue that are deleted, replaced or moved away under a running server: nothing is stored in them."""

import asyncio
import shutil
import time

import pytest

from relay_queue.protocol import QueueFailedError
from relay_queue.sqlite import open_queue
from tests.support.queues import a_put


@pytest.fixture
async def opened(tmp_path):
    queue = open_queue(tmp_path / "data")
    yield queue
    await queue.aclose()


def _all(folder):
    shutil.rmtree(folder)


def _database(folder):
    (folder / "queue.db").unlink()


def _log(folder):
    (folder / "queue.db-wal").unlink()


def _replaced(folder):
    shutil.copy(folder / "queue.db", folder / "other")
    (folder / "other").rename(folder / "queue.db")


@pytest.mark.parametrize("delete", [_all, _database, _log, _replaced])
async def test_nothing_is_stored_in_deleted_files(opened, tmp_path, delete):
    await opened.put(a_put("before@x.test"))
    delete(tmp_path / "data")
    with pytest.raises(QueueFailedError, match="deleted or replaced"):
        await opened.put(a_put("after@x.test"))
    with pytest.raises(QueueFailedError, match="restart the relay"):
        await opened.put(a_put("later@x.test"))
    assert "queue.db" in opened.failed()


async def test_nothing_is_stored_in_files_deleted_before_the_first_message(opened, tmp_path):
    _all(tmp_path / "data")
    with pytest.raises(QueueFailedError):
        await opened.put(a_put("after@x.test"))


async def test_messages_of_one_commit_are_all_refused(opened, tmp_path):
    await opened.put(a_put("before@x.test"))
    _all(tmp_path / "data")
    for future in [opened.put(a_put(f"b{n}@x.test")) for n in range(20)]:
        with pytest.raises(QueueFailedError):
            await future


@pytest.mark.parametrize("again", [False, True])
async def test_a_folder_that_is_moved_away_is_noticed_without_a_message(opened, tmp_path, again):
    assert opened.failed() is None
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    if again:
        await open_queue(tmp_path / "data").aclose()
    deadline = time.monotonic() + 10
    while (reason := opened.failed()) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert "moved away" in reason
    assert ("replaced" in reason) == again


async def test_a_queue_in_its_place_goes_on(opened, tmp_path):
    for n in range(3):
        await opened.put(a_put(f"b{n}@x.test"))
        # Other commands open and close the same files.
        await open_queue(tmp_path / "data").aclose()
        await asyncio.sleep(0.3)
        assert opened.failed() is None
