"""Faults under the SQLite queue: full disks, failing steps, damaged rows and bodies."""

import asyncio
import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from relay_queue.durable import Disk
from relay_queue.model import Body, Destination, Put, Selection
from relay_queue.protocol import Action, BodyDamagedError, QueueError, QueueFailedError, QueueFullError
from relay_queue.sqlite import open_admin, open_queue, pace
from relay_queue.sqlite.connect import FILE_NAME
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, exists, in_hand, worker

LOAD = Path(__file__).parents[1] / "support" / "queue_load.py"


class FaultyConnection(sqlite3.Connection):
    """A real connection whose commits fail as long as `code` is set: COMMIT, and the statement that is its own."""

    code: int | None = None

    def execute(self, sql, *parameters):
        commits = sql == "COMMIT" or (sql.startswith("INSERT INTO temp.change") and not self.in_transaction)
        if commits and FaultyConnection.code is not None:
            error = sqlite3.OperationalError("injected")
            error.sqlite_errorcode = FaultyConnection.code
            raise error
        return super().execute(sql, *parameters)


@pytest.fixture
async def faulty(tmp_path, monkeypatch):
    real = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: real(*args, **{**more, "factory": FaultyConnection}))
    queue = open_queue(tmp_path / "data")
    yield queue
    FaultyConnection.code = None
    await queue.aclose()


@pytest.mark.parametrize(
    ("code", "expected"), [(sqlite3.SQLITE_FULL, QueueFullError), (sqlite3.SQLITE_BUSY, QueueError)]
)
async def test_without_room_puts_are_refused_and_marks_wait(faulty, code, expected):
    put = in_hand()
    await faulty.put(put)
    FaultyConnection.code = code
    marked = faulty.mark([a_mark(put, State.DELIVERED)])
    with pytest.raises(expected):
        await faulty.put(a_put())
    with pytest.raises(expected):
        await faulty.claim(worker(1), Destination("example.test"), 1, NOW)
    assert not marked.done()
    FaultyConnection.code = None
    assert await marked == []
    assert faulty.failed() is None
    await faulty.put(a_put())


async def test_marks_without_room_are_told_so_at_the_end(faulty):
    put = in_hand()
    await faulty.put(put)
    FaultyConnection.code = sqlite3.SQLITE_FULL
    marked = faulty.mark([a_mark(put, State.DELIVERED)])
    await faulty.aclose()
    with pytest.raises(QueueFullError):
        await marked


async def test_an_io_error_stops_the_writer_for_good(faulty):
    put = in_hand()
    await faulty.put(put)
    FaultyConnection.code = sqlite3.SQLITE_IOERR_FSYNC
    pending = [faulty.put(a_put()), faulty.mark([a_mark(put, State.DELIVERED)])]
    results = await asyncio.gather(*pending, return_exceptions=True)
    assert {type(result) for result in results} == {QueueFailedError}
    FaultyConnection.code = None
    assert "injected" in faulty.failed()
    with pytest.raises(QueueFailedError):
        faulty.put(a_put())
    with pytest.raises(QueueFailedError):
        await faulty.due(NOW, None, 1)


async def test_one_bad_operation_fails_alone(sqlite_pair):
    queue, admin = sqlite_pair.queue, sqlite_pair.admin
    bad = [a_put(sender="\udcff@x.test"), a_put(size=1 << 70), a_put(received_at=NOW, user=object())]
    good = [a_put() for _ in range(20)]
    marked = in_hand()
    await queue.put(marked)
    futures = [queue.put(put) for pair in zip(good, bad * 7, strict=False) for put in pair]
    futures.append(queue.mark([a_mark(marked, State.DELIVERED)]))
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(result, QueueError) for result in results[:-1]] == [False, True] * 20
    assert results[-1] == []
    assert {entry.message.id for entry in admin.select(Selection())} == {put.entry.message.id for put in good}
    assert queue.failed() is None


async def test_a_mark_that_an_admin_crossed_does_not_touch_the_others_of_its_batch(sqlite_pair):
    queue, admin = sqlite_pair.queue, sqlite_pair.admin
    plain, crossed, lost = in_hand(), in_hand(), in_hand()
    for put in (plain, crossed, lost):
        await queue.put(put)
    admin.steer(Action.HOLD, Selection(ids=(crossed.entry.message.id,)), now=NOW)
    notice, new = a_put(sender=""), a_put()
    results = await asyncio.gather(
        queue.mark([a_mark(plain, State.DELIVERED)]),
        queue.mark([a_mark(crossed, State.QUEUED)]),
        queue.mark([a_mark(lost, State.FAILED, owner=7)], [notice]),
        queue.put(new),
    )
    assert [len(refused or ()) for refused in results] == [0, 0, 1, 0]
    states = {entry.message.id: entry.recipients[0].state for entry in admin.select(Selection())}
    assert states == {
        crossed.entry.message.id: State.HELD,
        lost.entry.message.id: State.ACTIVE,
        new.entry.message.id: State.QUEUED,
    }
    assert [end.message_id for end in admin.ended()] == [plain.entry.message.id]


async def test_outcomes_wait_for_the_next_message_and_share_its_commit(sqlite_pair, monkeypatch):
    monkeypatch.setattr(pace, "INTERVAL", 60.0)
    queue = sqlite_pair.queue
    puts = [in_hand() for _ in range(5)]
    for put in puts:
        await queue.put(put)
    before = queue.writer.commits
    marking = [queue.mark([a_mark(put, State.DELIVERED)]) for put in puts]
    await asyncio.sleep(0.05)
    assert queue.writer.commits == before
    await queue.put(a_put())
    assert [await each for each in marking] == [[]] * 5
    assert queue.writer.commits == before + 1


async def test_outcomes_alone_are_written_soon_and_all_at_the_end(sqlite_pair, monkeypatch):
    queue = sqlite_pair.queue
    put, last = in_hand(), in_hand()
    await queue.put(put)
    await queue.put(last)
    assert await queue.mark([a_mark(put, State.DELIVERED)]) == []
    monkeypatch.setattr(pace, "INTERVAL", 60.0)
    marking = queue.mark([a_mark(last, State.DELIVERED)])
    await asyncio.sleep(0.05)
    assert not marking.done()
    async with asyncio.timeout(10):
        await queue.aclose()
    assert await marking == []


async def test_what_gathers_during_a_commit_is_one_transaction(sqlite_pair):
    queue = sqlite_pair.queue
    before = queue.writer.commits
    await asyncio.gather(*(queue.put(a_put()) for _ in range(1000)))
    assert queue.writer.commits - before < 100
    await queue.put(a_put())
    (synchronous,) = await queue._write(lambda changes: changes.connection.execute("PRAGMA synchronous").fetchone())
    assert synchronous == 2


async def test_the_log_stays_bounded_under_load(sqlite_pair, tmp_path):
    queue = sqlite_pair.queue
    for _ in range(12):
        puts = [in_hand(body=b"x" * 250_000) for _ in range(40)]
        await asyncio.gather(*(queue.put(put) for put in puts))
        await asyncio.gather(*(queue.mark([a_mark(put, State.DELIVERED)]) for put in puts))
    log = tmp_path / "data" / f"{FILE_NAME}-wal"
    assert 0 < log.stat().st_size < 48 << 20


class FailingDisk(Disk):
    """Fails one step once, as the kernel would."""

    def __init__(self, step, number):
        self.step, self.number = step, number
        self.failed = False

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "__dict__").get("step") and not self.failed:
            self.failed = True
            raise OSError(self.number, os.strerror(self.number))
        return object.__getattribute__(self, name)


def large(queue):
    file = queue.new_file()
    file.write(b"x" * 1000)
    put = a_put()
    return Put(put.entry, Body(b"\r\n", os.path.basename(file.name), 1000))  # noqa: PTH119 -- a name, not a path


@pytest.mark.parametrize("step", ["sync", "make_folder", "sync_folder", "rename"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, QueueFullError), (errno.EIO, QueueFailedError), (errno.ENOENT, QueueError)],
)
async def test_each_durable_step_of_a_large_body_can_fail(tmp_path, step, number, expected):
    queue = open_queue(tmp_path / "data", disk=FailingDisk(step, number))
    try:
        with pytest.raises(QueueError) as raised:
            await queue.put(large(queue))
        assert type(raised.value) is expected
        assert (queue.failed() is not None) == (number == errno.EIO)
        if number != errno.EIO:
            put = large(queue)
            await queue.put(put)
            queue.open_file(await queue.head(put.entry.message.id)).close()
            await queue.recover_node("local")
            assert len([path for path in (tmp_path / "data/bodies").glob("*/*")]) == 1  # noqa: C416 -- a test
    finally:
        await queue.aclose()


async def test_a_file_that_cannot_be_created_is_an_oserror_and_passes(tmp_path):
    queue = open_queue(tmp_path / "data", disk=FailingDisk("create", errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        queue.new_file()
    await queue.put(large(queue))
    await queue.aclose()


async def test_a_put_that_fails_takes_its_file_along(sqlite_pair, tmp_path):
    queue = sqlite_pair.queue
    first, second = large(queue), large(queue)
    await queue.put(first)
    with pytest.raises(QueueError):
        await queue.put(Put(first.entry, second.body))
    await queue.put(a_put())
    path = tmp_path / "data/bodies" / second.body.file[-2:] / second.body.file
    assert not exists(path)
    queue.open_file(await queue.head(first.entry.message.id)).close()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY])
async def test_a_commit_that_fails_leaves_no_body_behind(faulty, tmp_path, code):
    bodies = tmp_path / "data/bodies"
    FaultyConnection.code = code
    puts = [large(faulty), a_put(), large(faulty), large(faulty)]
    results = await asyncio.gather(*(faulty.put(put) for put in puts), return_exceptions=True)
    assert all(isinstance(result, QueueError) for result in results), "one commit for all"
    FaultyConnection.code = None
    kept = large(faulty)
    await faulty.put(kept)
    await faulty.put(a_put())  # what was to be removed after the commit before is gone now
    assert [path.name for path in bodies.glob("*/*")] == [kept.body.file]


def spoil(folder, statement, *parameters):
    with sqlite3.connect(folder / FILE_NAME) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement, parameters)
    connection.close()


async def test_a_flipped_bit_in_a_body_is_noticed(sqlite_pair, tmp_path):
    queue, put = sqlite_pair.queue, a_put()
    await queue.put(put)
    spoil(tmp_path / "data", "UPDATE body SET head = ?", bytes([put.body.head[0] ^ 1]) + put.body.head[1:])
    with pytest.raises(BodyDamagedError):
        await queue.head(put.entry.message.id)
    with pytest.raises(BodyDamagedError):
        sqlite_pair.admin.body(put.entry.message.id)
    spoil(tmp_path / "data", "DELETE FROM body")
    with pytest.raises(BodyDamagedError):
        await queue.head(put.entry.message.id)


async def test_a_damaged_body_file_is_noticed(sqlite_pair, tmp_path):
    queue, put = sqlite_pair.queue, large(sqlite_pair.queue)
    await queue.put(put)
    body = await queue.head(put.entry.message.id)
    path = tmp_path / "data/bodies" / body.file[-2:] / body.file
    path.write_bytes(b"x" * 999 + b"y")
    with queue.open_file(body) as file:
        assert file.read(500) == b"x" * 500
        with pytest.raises(BodyDamagedError):
            file.read(500)
    path.write_bytes(b"x" * 999)
    with pytest.raises(BodyDamagedError):
        queue.open_file(body)
    path.unlink()
    with pytest.raises(BodyDamagedError):
        queue.open_file(body)
    path.symlink_to("/etc/passwd")
    with pytest.raises(BodyDamagedError):
        queue.open_file(body)
    spoil(tmp_path / "data", "UPDATE body SET file = '../../../etc/passwd'")
    with pytest.raises(BodyDamagedError):
        queue.open_file(await queue.head(put.entry.message.id))


SPOILING = [
    "UPDATE recipient SET address = CAST(x'ff40' AS TEXT) WHERE message_id = ?",
    "UPDATE recipient SET reply = CAST(x'c0ae' AS TEXT) WHERE message_id = ?",
    "UPDATE message SET sender = CAST(x'ff40' AS TEXT) WHERE id = ?",
    "DELETE FROM message WHERE id = ?",
]


@pytest.mark.parametrize("statement", SPOILING)
async def test_a_damaged_row_is_set_aside_and_harms_no_other(sqlite_pair, tmp_path, statement):
    queue, admin = sqlite_pair.queue, sqlite_pair.admin
    puts = [a_put() for _ in range(5)]
    for put in puts:
        await queue.put(put)
    spoilt = puts[2].entry.message.id
    spoil(tmp_path / "data", statement, spoilt)
    claimed = [entry.message.id for entry in await queue.claim(worker(1), Destination("example.test"), 10, NOW)]
    assert claimed == [put.entry.message.id for put in puts if put is not puts[2]]
    assert await queue.due(NOW, None, 10) == []
    (entry,) = admin.select(Selection(states=(State.QUARANTINED,)))
    assert entry.message.id == spoilt
    assert admin.summary(Selection(states=(State.QUARANTINED,)))[0].quarantined == 1
    if not statement.startswith("UPDATE recipient SET address"):
        assert entry.recipients[0].reply.startswith("damaged row")
    assert admin.steer(Action.DROP, Selection(ids=(spoilt,)), now=NOW).recipients == 1
    assert admin.select(Selection(ids=(spoilt,))) is not None
    assert spoilt not in [entry.message.id for entry in admin.select(Selection())]


@pytest.fixture
def small_disk(tmp_path):
    mount = shutil.which("mount")
    folder = tmp_path / "small"
    folder.mkdir()
    if mount is None or os.geteuid() != 0:
        pytest.skip("needs root and mount")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs", str(folder)], check=False)
    if made.returncode != 0:
        pytest.skip("tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_refuses_puts_keeps_marks_and_heals(small_disk):
    # Something else fills the disk; what the queue itself wrote cannot be given back while it is full.
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 1_500_000)
    queue = open_queue(small_disk / "data")
    stored = []
    try:
        with pytest.raises(QueueFullError):  # noqa: PT012 -- which put it is depends on the pages
            for _ in range(1000):
                put = in_hand(body=b"x" * 20_000)
                await queue.put(put)
                stored.append(put)
        marked = [queue.mark([a_mark(put, State.DELIVERED)]) for put in stored]
        with pytest.raises(QueueFullError):
            await queue.put(in_hand(body=b"x" * 200_000))
        filler.unlink()
        assert await asyncio.gather(*marked) == [[]] * len(stored)
        await queue.put(a_put())
        assert queue.failed() is None
        admin = open_admin(small_disk / "data")
        assert len(admin.ended(limit=1000)) == len(stored) > 10
        admin.close()
    finally:
        await queue.aclose()


async def test_a_limit_of_file_size_is_no_room_and_heals(sqlite_pair):
    queue = sqlite_pair.queue
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, hard))
    stored = 0
    try:
        with pytest.raises(QueueFullError):  # noqa: PT012 -- which put it is depends on the pages
            for _ in range(100):
                await queue.put(a_put(body=b"x" * 100_000))
                stored += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert queue.failed() is None
    await queue.put(a_put())
    assert len(list(sqlite_pair.admin.select(Selection()))) == stored + 1 > 5


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("number", [3, 6, 9])
def test_an_fsync_error_is_told_and_nothing_is_acknowledged_after_it(tmp_path, number):
    inject = f"inject=fsync,fdatasync:error=EIO:when={number}+"
    command = ["strace", "-f", "-o", os.devnull, "-e", "trace=fsync,fdatasync", "-e", inject]
    ran = subprocess.run(
        [*command, sys.executable, str(LOAD), str(tmp_path / "data"), "1", "500"],
        capture_output=True,
        check=False,
        timeout=100,
    )
    if b"ptrace" in ran.stderr or b"PTRACE" in ran.stderr:
        pytest.skip("strace may not trace here")
    assert ran.returncode != 0
    assert b"Queue" in ran.stderr
    told = {line.split()[1].decode() for line in ran.stdout.splitlines() if line.startswith(b"put ")}
    assert len(told) < 500
    admin = open_admin(tmp_path / "data")
    there = {entry.message.id for entry in admin.select(Selection(), limit=None)}
    assert told <= there | {ended.message_id for ended in admin.ended(limit=1000)}
    admin.close()
