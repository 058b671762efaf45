"""A damaged page under a running queue: what can be read goes on, what would build on the damage stops, and says so."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from relay_queue.model import Destination, Integrity, Selection
from relay_queue.protocol import QueueDamagedError, QueueFailedError
from relay_queue.sqlite import admin as sqlite_admin
from relay_queue.sqlite import open_admin, open_queue, salvage_queue, unrecorded
from relay_queue.sqlite.connect import FILE_NAME, connect
from relay_queue.sqlite.faults import damaging
from relay_queue.sqlite.salvage.records import PAGE
from relay_queue.sqlite.sql import queries
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, in_hand, worker

DAMAGED = queries("damaged")
DOMAINS = [f"d{n}.test" for n in range(8)]


async def stored(folder: Path, count: int = 400) -> list[str]:
    """The ids of messages to some domains: tables and indexes have several pages, and nothing is in the log."""
    queue = open_queue(folder)
    puts = [a_put(f"{'x' * 60}{n}@{DOMAINS[n % 8]}", body=b"\r\n") for n in range(count)]
    await asyncio.gather(*(queue.put(put) for put in puts))
    await queue.aclose()
    return [put.entry.message.id for put in puts]


def leaves(folder: Path, name: str) -> list[int]:
    """The leaf pages of a table or index."""
    connection = sqlite3.connect(folder / FILE_NAME)
    query = "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
    try:
        pages = [row[0] for row in connection.execute(query, (name,))]
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no dbstat table")
    finally:
        connection.close()
    assert len(pages) > 2
    return pages


def spoil(folder: Path, page: int) -> None:
    with (folder / FILE_NAME).open("r+b") as file:
        file.seek((page - 1) * PAGE)
        file.write(b"\xff" * 100)


async def claimed(queue, now: float = NOW + 1) -> list[str]:
    """What the server would deliver: due domains, then claims."""
    found = []
    for destination, _ in await queue.due(now, None, 100):
        while entries := await queue.claim(worker(1), destination, 7, now):
            found += [entry.message.id for entry in entries]
    return found


async def test_a_damaged_page_of_the_table_costs_its_own_rows_alone(tmp_path: Path):
    ids = await stored(tmp_path)
    spoil(tmp_path, leaves(tmp_path, "recipient")[1])
    queue = open_queue(tmp_path)
    try:
        assert queue.damaged() is None
        found = await claimed(queue)
        assert len(found) == len(set(found))
        assert set(found) < set(ids)
        assert len(ids) - 40 < len(found) < len(ids)
        assert "malformed" in (queue.damaged() or "")
        assert queue.failed() is None
        with pytest.raises(QueueDamagedError):
            await queue.put(a_put())
        assert await claimed(queue) == [], "and what is damaged is not taken again and again"
    finally:
        await queue.aclose()


@pytest.mark.parametrize("place", [0, 1, -1])
async def test_a_damaged_page_of_the_index_costs_its_own_entries_alone(tmp_path: Path, place: int):
    ids = await stored(tmp_path)
    spoil(tmp_path, leaves(tmp_path, "recipient_queued")[place])
    queue = open_queue(tmp_path)
    try:
        found = await claimed(queue)
        assert len(found) == len(set(found))
        assert len(ids) // 2 < len(found) < len(ids)
        assert queue.damaged() is not None
        assert queue.failed() is None
    finally:
        await queue.aclose()


async def test_an_outcome_that_meets_damage_stops_the_writer(tmp_path: Path):
    await stored(tmp_path)
    queue = open_queue(tmp_path)
    put, later, deferred = in_hand(), in_hand(), in_hand()
    for each in (put, later, deferred):
        await queue.put(each)
    await queue.aclose()
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ended_once'").fetchone()
    connection.close()
    spoil(tmp_path, page)
    queue = open_queue(tmp_path)
    try:
        results = await asyncio.gather(
            queue.mark([a_mark(put, State.DELIVERED)]), queue.put(a_put()), return_exceptions=True
        )
        assert [type(result) for result in results] == [QueueDamagedError, QueueDamagedError]
        assert "malformed" in (queue.failed() or "")
        assert queue.damaged() is not None
        # What was on the wire all the while ends later.
        with pytest.raises(QueueFailedError):
            await queue.mark([a_mark(later, State.DELIVERED)])
        with pytest.raises(QueueFailedError):
            await queue.mark([a_mark(deferred, State.QUEUED)])
    finally:
        await queue.aclose()
    with (tmp_path / unrecorded.NAME).open("ab") as file:
        file.write(b'{"torn')
    done = salvage_queue(tmp_path, NOW).salvaged
    assert done.lost_envelope == []
    admin = open_admin(tmp_path)
    left = {entry.message.id for entry in admin.select(Selection(), limit=None)}
    assert deferred.entry.message.id in left
    delivered = {put.entry.message.id for put in (put, later)}
    assert not delivered & left, "nobody is sent it again"
    assert {end.message_id for end in admin.ended()} == delivered
    admin.close()
    assert not (tmp_path / unrecorded.NAME).exists()


async def test_the_queries_around_damage_ask_what_they_should(tmp_path: Path):
    await stored(tmp_path, 10)
    connection = connect(tmp_path / FILE_NAME)
    given = {"domain": "", "stream": "", "now": 0.0, "after_domain": "", "after_stream": "", "limit": 1}

    def plan(name: str) -> str:
        return " ".join(str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {DAMAGED[name]}", given))

    for name in ("keys", "due"):
        assert "COVERING INDEX recipient_queued" in plan(f"{name}_by_index")
        assert "recipient_queued" not in plan(f"{name}_by_table")
    connection.close()


async def test_a_claim_that_cannot_be_done_harms_nobody_who_shares_its_commit(tmp_path: Path):
    await stored(tmp_path)
    queue = open_queue(tmp_path)
    put = in_hand("a@example.test")
    await queue.put(put)
    await queue.aclose()
    for page in leaves(tmp_path, "recipient_queued"):
        spoil(tmp_path, page)
    queue = open_queue(tmp_path)
    try:
        claimed = queue.claim(worker(1), Destination(DOMAINS[0]), 5, NOW + 1)
        assert await asyncio.gather(claimed, queue.mark([a_mark(put, State.DELIVERED)])) == [[], []]
        assert queue.failed() is None
    finally:
        await queue.aclose()


async def test_what_one_worker_met_counts_for_all(tmp_path: Path):
    queue = open_queue(tmp_path)
    try:
        queue.note_damage("met by another")
        queue.note_damage("again")
        assert queue.damaged() == "met by another"
        with pytest.raises(QueueDamagedError, match="met by another"):
            await queue.put(a_put())
        assert await queue.claim(worker(1), Destination("x.test"), 1, NOW) == []
    finally:
        await queue.aclose()


async def test_indexes_of_a_small_queue_are_compared_with_their_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    await stored(tmp_path, 3)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'due_at', 'n') WHERE name = 'recipient_queued'")
    connection.commit()
    connection.close()
    admin = open_admin(tmp_path)
    try:
        assert any("recipient_queued" in fault for fault in admin.integrity(60).faults)
        monkeypatch.setattr(sqlite_admin, "COMPARED_MOST", 1)
        assert admin.integrity(60) == Integrity(faults=(), whole=True), "a large one is only read"
    finally:
        admin.close()


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_CORRUPT_INDEX, True),
        (sqlite3.SQLITE_NOTADB, True),
        (None, True),
        (sqlite3.SQLITE_BUSY, False),
        (sqlite3.SQLITE_IOERR, False),
    ],
)
def test_only_what_comes_of_the_contents_is_damage(code: int | None, damage: bool):
    error = sqlite3.OperationalError("x")
    if code is not None:
        error.sqlite_errorcode = code
    assert damaging(error) is damage
    assert damaging(ValueError("x"))
    assert not damaging(OSError("x"))


async def test_the_shell_says_what_is_damaged(tmp_path: Path):
    await stored(tmp_path)
    admin = open_admin(tmp_path)
    assert admin.integrity(60) == Integrity(faults=(), whole=True)
    admin.close()
    spoil(tmp_path, leaves(tmp_path, "recipient_queued")[1])
    admin = open_admin(tmp_path)
    try:
        assert admin.integrity(60).faults
        with pytest.raises(QueueDamagedError):
            admin.summary(Selection())
    finally:
        admin.close()
