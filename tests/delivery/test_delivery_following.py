"""Works that go out behind others on a busy connection: when, and that nothing is lost or doubled by it."""

import asyncio

import pytest

from relay.delivery.lane import LanePlanner, Slot
from relay.delivery.work import Work
from relay_config.schema import Lane
from relay_config.words import Rate
from relay_queue.model import Body, Message, Selection
from relay_queue.states import State
from tests.support.answers import Close, Default, Delay
from tests.support.delivering import Bench, delivering

UNLIMITED = Rate(0, 1)
IN_MEMORY = Body(b"x\r\n")


def work(n: int, body: Body | None = IN_MEMORY) -> Work:
    return Work(Message(id=str(n), received_at=0, sender="a@example.org", size=3), [], body)


def busy(works: list[Work], *, took: float = 0.01, **limits) -> tuple[LanePlanner, Slot]:
    """A lane whose one connection is busy, after transactions of `took` seconds; `works` are ready."""
    lane = LanePlanner(
        "mx.test", Lane(**({"rate": UNLIMITED, "connection_rate": UNLIMITED, "max_connections": 1} | limits)), 5.0
    )
    lane.ready.append(work(0))
    (slot,) = lane.plan(0).open
    lane.connected(slot, 0)
    lane.plan(0)
    for _ in range(50):
        lane.followed(slot, slot.busy_since + took)
    lane.ready.extend(works)
    return lane, slot


def test_the_next_ready_work_follows_and_counts():
    works = [work(1), work(2)]
    lane, slot = busy(works, messages_per_connection=2)
    assert lane.follow(slot, 10) is works[0]
    assert slot.sent == 2
    assert lane.follow(slot, 10) is None, "the connection has had its messages"


@pytest.mark.parametrize(
    ("ready", "took"),
    [
        ([], 0.01),
        ([work(1, None)], 0.01),
        ([work(1, Body(b"x", file="f", file_size=9))], 0.01),
        ([Work(work(1).message, [], IN_MEMORY, retried=True)], 0.01),
        ([work(1)], 2.0),
    ],
    ids=["nothing ready", "not in memory", "in a file", "was put back before", "a slow site"],
)
def test_nothing_follows(ready, took):
    lane, slot = busy(ready, took=took)
    assert lane.follow(slot, 1000) is None
    assert len(lane.ready) == len(ready)


def test_a_new_site_counts_as_slow():
    lane = LanePlanner("mx.test", Lane(rate=UNLIMITED, connection_rate=UNLIMITED, max_connections=1), 5.0)
    lane.ready.extend([work(0), work(1)])
    (slot,) = lane.plan(0).open
    lane.connected(slot, 0)
    lane.plan(0)
    assert lane.follow(slot, 0) is None


def test_nothing_follows_past_the_rate_in_a_pause_or_a_suspension():
    lane, slot = busy([work(n) for n in range(1, 9)], rate=Rate(1, 1))
    assert lane.follow(slot, 100) is not None
    assert lane.follow(slot, 100) is None
    assert lane.follow(slot, 101) is not None
    lane.suspended = "maintenance"
    assert lane.follow(slot, 200) is None
    lane.suspended = None
    lane.failed("421", 200, random=0.5)
    assert lane.follow(slot, 200) is None


async def burst(bench: Bench, count: int) -> list[str]:
    """Accept so many messages at once; their ids."""
    puts = await asyncio.gather(*(bench.accept(f"u{n}@example.test") for n in range(count)))
    return [put.entry.message.id for put in puts]


async def quick(bench: Bench, receiver) -> None:
    """Let the lane learn that the site is quick."""
    for n in range(20):
        await bench.accept(f"first{n}@example.test")
        await receiver.wait(n + 1)
        await bench.until(lambda: not bench.states())


def ended(bench: Bench, ids: list[str]) -> list[State]:
    return [end.state for id_ in ids for end in bench.pair.admin.ended(id_)]


async def test_a_burst_goes_through_one_connection(pair):
    async with delivering(pair) as (bench, receiver):
        await quick(bench, receiver)
        ids = await burst(bench, 30)
        await bench.until(lambda: not bench.states())
        assert ended(bench, ids) == [State.DELIVERED] * 30
        assert sorted(receiver.recipients()[20:]) == sorted(f"u{n}@example.test" for n in range(30))
        assert len(receiver.sessions) == 1
        assert [session.commands.count("DATA") for session in receiver.sessions] == [50]


async def test_a_peer_that_hangs_up_now_and_then(pair):
    """Followers on such a connection take another at once, as part of the same attempt."""
    content = [*[Default()] * 20, *[Default(), Default(), Close("250 2.0.0 ok")] * 9]
    async with delivering(pair, content=content) as (bench, receiver):
        await quick(bench, receiver)
        ids = await burst(bench, 12)
        await bench.until(lambda: not bench.states())
        assert ended(bench, ids) == [State.DELIVERED] * 12
        assert len(set(receiver.recipients())) == len(receiver.recipients()) == 32
        assert not bench.recorder.named("lane")


@pytest.mark.parametrize(
    ("end", "states"),
    [(Close(), ["queued"]), (b"354 what?\r\n", ["queued"]), ("421 4.3.2 enough", ["active"] * 3 + ["queued"])],
    ids=["goes on", "goes on without following", "waits in memory while the lane pauses"],
)
async def test_a_follower_does_not_share_the_fate_of_the_one_before(pair, end, states):
    async with delivering(pair, content=[*[Default()] * 21, end, Default()]) as (bench, receiver):
        await quick(bench, receiver)
        await burst(bench, 5)
        await bench.until(lambda: sorted(bench.states()) == states)
        tried = [r.attempts for entry in bench.pair.admin.select(Selection(), None) for r in entry.recipients]
        assert sorted(tried) == [0] * (len(states) - 1) + [1]


async def test_a_stop_gives_followers_back(pair):
    slow = asyncio.Event()
    async with delivering(pair, content=[*[Default()] * 21, Delay(slow)]) as (bench, receiver):
        await quick(bench, receiver)
        ids = await burst(bench, 6)
        await receiver.wait(21)
        (lane,) = bench.delivery.lanes.running.values()
        await bench.until(lambda: len(lane.planner.ready) == 3)
        await bench.delivery.stop(0.2)
        assert bench.states() == ["queued"] * (6 - len(receiver.recipients()[20:]))
        assert ended(bench, ids) == [State.DELIVERED] * len(receiver.recipients()[20:])
        slow.set()
