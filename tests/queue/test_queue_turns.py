"""Writers of several processes take turns; what gathers while one waits shares its commit."""

import asyncio
from pathlib import Path

from relay_queue.sqlite import open_queue
from relay_queue.sqlite.connect import TurnLock
from tests.support.queues import a_put


async def test_what_comes_while_others_have_their_turn_shares_one_commit(tmp_path: Path):
    queue = open_queue(tmp_path, slot=0)
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
    queue = open_queue(tmp_path, slot=0)
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
    queue = open_queue(tmp_path, slot=0)
    other = TurnLock(tmp_path)
    with other:
        puts = [queue.put(a_put(f"user{n}@example.test")) for n in range(5)]
        closing = asyncio.ensure_future(queue.aclose())
        await asyncio.sleep(0.05)
    await closing
    other.close()
    assert [future.exception() for future in puts] == [None] * 5
