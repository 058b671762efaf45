"""A full disk: an admin can still hold, drop and flush, since room was kept for it."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from relay_queue import reserve
from relay_queue.model import Selection
from relay_queue.protocol import Action, QueueFullError
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.states import State
from tests.faults.campaign import CannotError
from tests.faults.resources import filled, small_disk
from tests.support.queues import NOW, a_mark, a_put, in_hand

MIB = 1 << 20


@pytest.fixture
def disk(tmp_path: Path):
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(small_disk(tmp_path, "size=20m"))
        except CannotError as error:
            pytest.skip(str(error))
        yield made


def free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


def test_the_reserve_takes_real_room_and_gives_it_back_in_parts(disk: Path):
    before = free(disk)
    assert reserve.whole(disk), "none was made: then the disk's room alone decides"
    assert reserve.fill(disk, 2 * MIB)
    assert before - free(disk) >= reserve.SIZE
    assert reserve.whole(disk)
    assert (disk / reserve.NAME).stat().st_mode & 0o777 == 0o600
    room = [free(disk)]
    while reserve.release(disk):
        room.append(free(disk))
        assert not reserve.whole(disk)
    assert len(room) > 4
    assert room == sorted(set(room))
    assert not reserve.release(disk)
    assert reserve.fill(disk, 2 * MIB)
    assert reserve.whole(disk)


def test_no_reserve_is_made_of_room_that_mail_needs(disk: Path):
    assert not reserve.fill(disk, 15 * MIB)
    assert not (disk / reserve.NAME).exists()
    with filled(disk, leave=4 * MIB):
        assert not reserve.fill(disk, 0)
        assert not (disk / reserve.NAME).exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(b"x" * 100)
    (tmp_path / reserve.NAME).symlink_to(tmp_path / "elsewhere")
    assert not reserve.release(tmp_path)
    with pytest.raises(OSError, match="symbolic"):
        reserve.fill(tmp_path, 0)
    assert (tmp_path / "elsewhere").read_bytes() == b"x" * 100


@pytest.mark.parametrize("running", [True, False])
async def test_an_admin_acts_on_a_full_disk(disk: Path, *, running: bool):
    data = disk / "data"
    queue = open_queue(data)
    puts = [a_put(f"user{n}@example.test") for n in range(1500)]
    await asyncio.gather(*(queue.put(put) for put in puts))
    if not running:
        await queue.aclose()
    assert reserve.fill(data, MIB)
    stored = 0
    with filled(disk):
        if running:
            large = (queue.put(a_put("large@full.test", body=b"x" * 50_000)) for _ in range(50))
            results = await asyncio.gather(*large, return_exceptions=True)
            stored = results.count(None)
            assert any(isinstance(result, QueueFullError) for result in results)
        admin = open_admin(data)
        try:
            ids = [put.entry.message.id for put in puts]
            assert admin.steer(Action.HOLD, Selection(ids=(ids[0],)), now=NOW).recipients == 1
            assert admin.steer(Action.FLUSH, Selection(ids=(ids[1],)), now=NOW + 5).recipients == 1
            assert admin.suspend("domain", "x.test", "full", None, NOW).id == 1
            assert admin.resume([1]) == 1
            assert admin.steer(Action.DROP, Selection(ids=(ids[2],)), now=NOW).recipients == 1
            notice = [0]

            def bounce(_entry):
                notice[0] += 1
                return a_put("bounce@sender.test", sender="", origin="dsn")

            done = admin.steer(Action.FAIL, Selection(ids=tuple(ids[3:6])), now=NOW, notice=bounce)
            assert (done.recipients, notice[0]) == (3, 3), "a bounce is built once, however often the change is made"
            assert admin.steer(Action.HOLD, Selection(domain="example.test"), now=NOW).recipients == 1495
            assert admin.steer(Action.DROP, Selection(), now=NOW).recipients == 1499 + stored
            assert list(admin.select(Selection())) == []
        finally:
            admin.close()
    if running:
        assert queue.failed() is None
        await queue.put(a_put())
        await queue.aclose()


async def test_new_mail_of_the_shell_does_not_take_the_reserve(disk: Path):
    admin = open_admin(disk / "data")
    assert reserve.fill(disk / "data", MIB)
    with filled(disk):
        with pytest.raises(QueueFullError):
            admin.put(a_put(body=b"x" * 200_000))
        assert reserve.whole(disk / "data")
    admin.close()


async def test_outcomes_are_recorded_at_the_end_whatever_it_takes(disk: Path):
    data = disk / "data"
    queue = open_queue(data)
    puts = [in_hand(f"user{n}@example.test") for n in range(200)]
    await asyncio.gather(*(queue.put(put) for put in puts))
    assert reserve.fill(data, MIB)
    with filled(disk):
        with contextlib.suppress(QueueFullError):
            await asyncio.gather(*(queue.put(a_put(body=b"x" * 9000)) for _ in range(200)))
        marking = [queue.mark([a_mark(put, State.DELIVERED)]) for put in puts]
        await asyncio.sleep(0.6)
        await queue.aclose()
        assert await asyncio.gather(*marking) == [[]] * 200
    admin = open_admin(data)
    assert len(admin.ended(limit=1000)) == 200
    admin.close()


def test_a_reserve_that_is_just_being_made_stops_no_mail(tmp_path, monkeypatch):
    seen = []
    fallocate = os.posix_fallocate

    def looking(*given):
        seen.append(reserve.whole(tmp_path))
        fallocate(*given)

    monkeypatch.setattr(os, "posix_fallocate", looking)
    assert reserve.fill(tmp_path, MIB)
    assert seen == [True]
    assert reserve.release(tmp_path)
    assert not reserve.whole(tmp_path)
    assert reserve.fill(tmp_path, MIB)
    assert seen == [True, False]
    assert [path.name for path in tmp_path.iterdir()] == [reserve.NAME]
