"""Writers of several processes take turns; what gathers while one waits shares its commit."""

import asyncio
import time
from pathlib import Path

import pytest

from relay_queue.model import Body, Destination, Put, Selection
from relay_queue.protocol import QueueError
from relay_queue.sqlite import admin as shell
from relay_queue.sqlite import late, open_admin, open_queue
from relay_queue.sqlite.connect import FILE_NAME, TurnLock, connect
from relay_queue.states import State
from tests.support.queues import NOW, a_mark, a_put, in_hand, worker


async def test_what_comes_while_others_have_their_turn_shares_one_commit(tmp_path: Path):
    queue = open_queue(tmp_path)
    other = TurnLock(tmp_path)
    try:
        before = queue.writer.commits
        with other:
            first = queue.put(a_put("a@example.test"))
            while not queue.writer._batch:
                await asyncio.sleep(0.001)
            rest = [queue.put(a_put(f"user{n}@example.test")) for n in range(20)]
            await asyncio.sleep(0.05)
            assert not first.done()
        await asyncio.gather(first, *rest)
        assert queue.writer.commits == before + 1
    finally:
        other.close()
        await queue.aclose()


async def test_a_large_body_that_comes_late_is_durable_before_its_row(tmp_path: Path):
    queue = open_queue(tmp_path)
    other = TurnLock(tmp_path)
    try:
        with other:
            first = queue.put(a_put("a@example.test"))
            while not queue.writer._batch:
                await asyncio.sleep(0.001)
            file = queue.new_file()
            file.write(b"x" * 100_000)
            large = a_put("b@example.test")
            body = type(large.body)(large.body.head, Path(file.name).name, 100_000)
            second = queue.put(type(large)(large.entry, body))
            third = queue.put(a_put("c@example.test"))
            await asyncio.sleep(0.05)
        await asyncio.gather(first, second, third)
        stored = await queue.head(large.entry.message.id)
        with queue.open_file(stored) as kept:
            assert kept.read() == b"x" * 100_000
    finally:
        other.close()
        await queue.aclose()


async def test_closing_commits_what_came_late(tmp_path: Path):
    queue = open_queue(tmp_path)
    other = TurnLock(tmp_path)
    with other:
        puts = [queue.put(a_put(f"user{n}@example.test")) for n in range(5)]
        closing = asyncio.ensure_future(queue.aclose())
        await asyncio.sleep(0.05)
    await closing
    other.close()
    assert [future.exception() for future in puts] == [None] * 5


def large(queue) -> Put:
    file = queue.new_file()
    file.write(b"x" * 1000)
    return Put(a_put("large@example.test").entry, Body(b"\r\n", Path(file.name).name, 1000))


async def test_who_waits_for_a_turn_that_never_comes_is_answered_and_not_stored(tmp_path: Path):
    queue = open_queue(tmp_path)
    other = TurnLock(tmp_path)
    put = in_hand("marked@example.test", owner=1)
    await queue.put(put)
    try:
        with other:
            began = time.monotonic()
            first = [queue.put(a_put("first@example.test")), queue.put(large(queue))]
            marked = queue.mark([a_mark(put, State.DELIVERED)])
            await asyncio.sleep(1)  # the writer waits with these; the next lie in its inbox
            later = [queue.put(a_put("later@example.test")), queue.put(large(queue))]
            claimed = asyncio.ensure_future(queue.claim(worker(0), Destination("example.test"), 9, NOW + 1))
            results = await asyncio.gather(*first, *later, claimed, return_exceptions=True)
            assert time.monotonic() - began < 5
            assert {type(result) for result in results} == {QueueError}
            assert not marked.done(), "an outcome can wait"
            again = queue.put(a_put("again@example.test"))
            with pytest.raises(QueueError):
                await asyncio.wait_for(again, 1.5)
        assert await marked == []
        await queue.put(a_put("afterwards@example.test"))
        admin = open_admin(tmp_path)
        stored = [recipient.address for entry in admin.select(Selection()) for recipient in entry.recipients]
        admin.close()
        assert stored == ["afterwards@example.test"], "what was refused is not there"
        await queue.put(a_put())
        kept = {path.name for path in (tmp_path / "bodies").glob("??/*")}
        assert kept == set(), "and neither is its body"
    finally:
        other.close()
        await queue.aclose()


async def test_a_short_wait_refuses_nobody(tmp_path: Path):
    queue = open_queue(tmp_path)
    other = TurnLock(tmp_path)
    try:
        with other:
            waiting = [queue.put(a_put()) for _ in range(3)]
            await asyncio.sleep(late.PATIENCE - 1.5)
        await asyncio.gather(*waiting)
    finally:
        other.close()
        await queue.aclose()


async def test_another_program_that_writes_for_long_is_waited_for_as_long(tmp_path: Path):
    queue = open_queue(tmp_path)
    await queue.put(a_put())
    other = connect(tmp_path / FILE_NAME)
    try:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(QueueError):
            await queue.put(a_put())
        assert time.monotonic() - began < 5
        other.execute("ROLLBACK")
        await queue.put(a_put())
    finally:
        other.close()
        await queue.aclose()


async def test_a_command_gives_up_as_well(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(shell, "_PATIENCE", 0.3)
    admin, other = open_admin(tmp_path), TurnLock(tmp_path)
    try:
        for _ in range(2):
            with other, pytest.raises(QueueError, match="another process"):
                admin.put(a_put())
            admin.put(a_put())
        with other:
            waiting = asyncio.ensure_future(asyncio.to_thread(admin.suspend, "domain", "x.test", "", None, NOW))
            await asyncio.sleep(0.1)
        await waiting
        with TurnLock(tmp_path):
            pass  # nobody who gave up holds it
        assert len(list(admin.select(Selection()))) == 2
    finally:
        other.close()
        admin.close()
