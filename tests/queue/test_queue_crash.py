"""Kills and rivals: what was acknowledged is there, and nothing is taken twice."""

import asyncio
import collections
import random
import subprocess
import sys
from pathlib import Path

import pytest

from relay_queue.model import Selection
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.states import State

LOAD = Path(__file__).parents[1] / "support" / "queue_load.py"


def start(folder, slot, count):
    return subprocess.Popen([sys.executable, str(LOAD), str(folder), str(slot), str(count)], stdout=subprocess.PIPE)


def lines_until(process, wanted):
    """Read acknowledgements until there are so many, kill, and read what it still told."""
    told = [process.stdout.readline() for _ in range(wanted)]
    process.kill()
    told += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    words = [line.decode().split() for line in told if line.endswith(b"\n")]
    return {word: {message_id for kind, message_id in words if kind == word} for word in ("put", "end", "claim")}


async def after(folder):
    queue = open_queue(folder)
    await queue.recover_node("local")
    admin = open_admin(folder)
    return queue, admin


@pytest.mark.parametrize("attempt", range(3))
async def test_killed_under_load_loses_nothing_acknowledged(tmp_path, attempt):
    folder = tmp_path / "data"
    told = lines_until(start(folder, 1, 100_000), random.Random(attempt).randint(20, 600))
    queue, admin = await after(folder)
    try:
        live = {entry.message.id: entry for entry in admin.select(Selection(), limit=None)}
        ended = {row.message_id for row in admin.ended(limit=100_000)}
        assert told["put"] - live.keys() - ended == set()
        assert told["end"] <= ended
        assert not live.keys() & ended
        assert {r.state for entry in live.values() for r in entry.recipients} <= {State.QUEUED}
        for message_id in live:
            assert b"".join(admin.body(message_id)).startswith(b"Subject: x\r\n\r\n" + message_id.encode())
            with_file = await queue.head(message_id)
            if with_file.file is not None:
                queue.open_file(with_file).close()
        files = {path.name for path in (folder / "bodies").glob("*/*")}
        assert len(files) == sum([(await queue.head(message_id)).file is not None for message_id in live])
    finally:
        admin.close()
        await queue.aclose()


async def test_two_processes_share_the_file(tmp_path):
    folder = tmp_path / "data"
    open_admin(folder).close()
    rivals = [start(folder, slot, 600) for slot in (1, 2)]
    told = [rival.communicate(timeout=100)[0].decode().split("\n") for rival in rivals]
    assert [rival.returncode for rival in rivals] == [0, 0]
    counted = collections.Counter(line for lines in told for line in lines if line)
    assert set(counted.values()) == {1}, "each acknowledged once"
    claims = [line for line in counted if line.startswith("claim")]
    assert len(claims) == 400
    admin = open_admin(folder)
    assert len(admin.ended(limit=10_000)) == 800
    assert len(list(admin.select(Selection(), limit=None))) == 400
    admin.close()


async def test_two_processes_create_the_queue_at_once(tmp_path):
    folder = tmp_path / "data"
    rivals = [start(folder, slot, 3) for slot in range(4)]
    results = await asyncio.gather(*(asyncio.to_thread(rival.communicate, timeout=60) for rival in rivals))
    assert [rival.returncode for rival in rivals] == [0] * 4
    # By line: an id may hold the letters "put".
    assert sum(line.startswith(b"put ") for out, _ in results for line in out.splitlines()) == 12
