"""A clock that is set back is noticed, and what waits for a time that lies too far ahead by it is brought forward."""

import asyncio
import os
import time

import pytest

from relay.process import housekeeping
from relay.process.clock import Clock, behind
from relay.process.housekeeping import Housekeeping
from relay_config.schema import Settings
from relay_queue.model import Selection
from relay_queue.protocol import QueueError
from tests.support.queues import NOW, a_put, open_pair
from tests.support.remembering_recorder import RememberingRecorder

DAY = 86_400.0


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([0.0, 0.0], [0, 0]),
        ([-59.0], [0]),
        ([-60.0, 0.0], [60, 0]),
        ([-DAY, 0.0, -DAY], [DAY, 0, DAY]),
        ([-40.0, -40.0, 0.0], [0, 80, 0]),
        ([5 * DAY, -DAY, 0.0], [0, DAY, 0]),
        ([30.0, -50.0, -30.0], [0, 0, 80]),
    ],
)
def test_the_clock_tells_once_by_how_much_it_was_set_back(steps, told):
    clock = Clock(1000.0, 1.0)
    wall, monotonic = 1000.0, 1.0
    for step, expected in zip(steps, told, strict=True):
        wall, monotonic = wall + 10 + step, monotonic + 10
        assert clock.set_back(wall, monotonic) == pytest.approx(expected)


class Kept:
    """Housekeeping of a worker by a clock that can be set."""

    def __init__(self, queue, folder, slot=0, **more):
        self.set_back = 0.0
        self.log = RememberingRecorder()
        began = time.monotonic()
        self.keeping = Housekeeping(
            Settings(hostname="relay.test", data_dir=str(folder)),
            queue,
            self.log,
            slot,
            lambda: None,
            wall=lambda: NOW + time.monotonic() - began - self.set_back,
            **more,
        )

    @property
    def told(self):
        return [what for (what,) in self.log.named("process")]


@pytest.fixture
async def pair(tmp_path, monkeypatch):
    monkeypatch.setattr(housekeeping, "_LOOK_EVERY", 0.01)
    made = open_pair("memory", tmp_path)
    yield made
    await made.aclose()


def waits(pair):
    return [recipient.due_at - NOW for entry in pair.admin.select(Selection()) for recipient in entry.recipients]


def test_a_queue_written_in_the_future_tells_that_the_clock_was_set_back(tmp_path):
    assert not behind(tmp_path, NOW), "a new queue"
    for name in ("queue.db", "queue.db-wal"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (NOW, NOW))
        assert not behind(tmp_path, NOW - 59)
        assert behind(tmp_path, NOW - 61)
        assert not behind(tmp_path, NOW + 61)
        os.utime(tmp_path / name, (NOW - DAY, NOW - DAY))


async def test_a_start_without_doubt_about_the_clock_looks_for_nothing(pair, tmp_path):
    await pair.queue.put(a_put(recipient={"due_at": NOW + DAY, "attempts": 3}))
    kept = Kept(pair.queue, tmp_path)
    kept.keeping.start()
    await asyncio.sleep(0.1)
    assert waits(pair) == [DAY]
    await kept.keeping.stop()


async def test_a_start_with_doubt_lets_nothing_wait_for_a_time_that_no_schedule_sets(pair, tmp_path):
    await pair.queue.put(a_put(recipient={"due_at": NOW + DAY, "attempts": 3}))
    await pair.queue.put(a_put(recipient={"due_at": NOW + 30_000, "attempts": 3}))
    kept = Kept(pair.queue, tmp_path, slot=1, bring_forward=True)
    kept.keeping.start()
    await asyncio.sleep(0.1)
    assert waits(pair) == [pytest.approx(0, abs=1), 30_000]
    assert kept.told == ["brought forward"]
    await kept.keeping.stop()


async def test_a_clock_set_back_lets_mail_that_waits_be_tried_soon(pair, tmp_path, monkeypatch):
    kept = Kept(pair.queue, tmp_path)
    kept.keeping.start()
    await asyncio.sleep(0.1)
    await pair.queue.put(a_put(recipient={"due_at": NOW + 300, "attempts": 1}))
    await pair.queue.put(a_put())
    bring_forward, failures = pair.queue.bring_forward, [QueueError("busy")]

    async def at_the_second_time(*given):
        if failures:
            raise failures.pop()
        return await bring_forward(*given)

    monkeypatch.setattr(pair.queue, "bring_forward", at_the_second_time)
    kept.set_back = DAY
    await asyncio.sleep(0.2)
    assert waits(pair) == [pytest.approx(-DAY, abs=1)] * 2
    assert kept.told == ["clock set back", "brought forward"]
    await kept.keeping.stop()
