"""What is remembered, for how long, and that a question is asked once."""

import asyncio

import pytest

from relay.delivery.route_memory import Learned, Memory


class Source:
    """Answers from a list, counts, and can be held back."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, key):
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        await self.gate.wait()
        if isinstance(answer, Exception):
            raise answer
        return answer


class Clock:
    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now


async def test_a_value_lives_for_its_ttl():
    clock = Clock()
    memory = Memory(10, clock)
    source = Source(Learned("v", 60))
    assert memory.get("k", clock.now) is None
    assert await memory.ask("k", source) == "v"
    assert memory.get("k", clock.now + 59.9) == "v"
    assert memory.get("k", clock.now + 60) is None
    assert await memory.ask("k", source) == "v"
    assert source.asked == 1
    clock.now += 60
    await memory.ask("k", source)
    assert source.asked == 2


async def test_a_clock_set_back_expires_everything():
    clock = Clock(100_000.0)
    memory = Memory(10, clock)
    await memory.ask("k", Source(Learned("v", 600)))
    assert memory.get("k", clock.now - 30) == "v"
    assert memory.get("k", clock.now - 86_400) is None


async def test_one_question_at_a_time_is_shared():
    memory = Memory(10, Clock())
    source = Source(Learned("v", 60))
    source.gate.clear()
    waiting = [asyncio.create_task(memory.ask("k", source)) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*waiting[1:]) == ["v"] * 19
    assert source.asked == 1
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]


async def test_the_least_recently_used_goes():
    memory = Memory(2, Clock())
    source = Source(Learned("v", 60))
    await memory.ask("a", source)
    await memory.ask("b", source)
    memory.get("a", 1000.0)
    await memory.ask("c", source)
    assert len(memory) == 2
    assert memory.get("b", 1000.0) is None
    assert memory.get("a", 1000.0) == "v"


async def test_a_lasting_value_outlives_failures_for_its_time():
    clock = Clock()
    memory = Memory(10, clock, stale=1000)
    source = Source(Learned("v", 60), Learned("broken", 10, failed=True))
    await memory.ask("k", source)
    clock.now += 500
    assert await memory.ask("k", source) == "v"
    clock.now += 499
    assert await memory.ask("k", source) == "v"
    clock.now += 10
    assert await memory.ask("k", source) == "broken"


async def test_a_passing_value_does_not_outlive_failures():
    clock = Clock()
    memory = Memory(10, clock, stale=1000)
    source = Source(Learned("absent", 60, lasts=False), Learned("broken", 10, failed=True), Learned("v", 60))
    await memory.ask("k", source)
    clock.now += 100
    assert await memory.ask("k", source) == "broken"
    clock.now += 100
    assert await memory.ask("k", source) == "v"


async def test_an_equal_value_stays_the_same_object():
    clock = Clock()
    memory = Memory(10, clock)
    first = await memory.ask("k", Source(Learned(["v"], 60)))
    clock.now += 100
    assert await memory.ask("k", Source(Learned(["v"], 60))) is first


async def test_an_error_reaches_all_and_is_not_remembered():
    memory = Memory(10, Clock())
    source = Source(ValueError("bug"), Learned("v", 60))
    source.gate.clear()
    waiting = [asyncio.create_task(memory.ask("k", source)) for _ in range(3)]
    await asyncio.sleep(0)
    source.gate.set()
    assert [type(r) for r in await asyncio.gather(*waiting, return_exceptions=True)] == [ValueError] * 3
    assert await memory.ask("k", source) == "v"


async def test_clear_forgets_what_is_still_being_asked():
    memory = Memory(10, Clock())
    slow = Source(Learned("old", 60))
    slow.gate.clear()
    waiting = asyncio.create_task(memory.ask("k", slow))
    await asyncio.sleep(0)
    memory.clear()
    assert await memory.ask("k", Source(Learned("new", 60))) == "new"
    slow.gate.set()
    assert await waiting == "old"
    assert memory.get("k", 1000.0) == "new"


async def test_aclose_abandons_questions():
    memory = Memory(10, Clock())
    source = Source(Learned("v", 60))
    source.gate.clear()
    waiting = asyncio.create_task(memory.ask("k", source))
    await asyncio.sleep(0)
    memory.clear()
    await memory.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
