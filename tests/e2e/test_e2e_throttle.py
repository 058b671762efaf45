"""Limits as the receiver sees them, and destinations that do not disturb each other."""

import asyncio
from collections import Counter

import pytest

from tests.support.answers import Delay, Hang
from tests.support.world import World, message, submit


async def burst(world: World, count: int, domain: str = "example.test") -> None:
    def all_of_them(part: int) -> None:
        for n in range(part, count, 4):
            submit(world.relay.plain, "app@sender.test", [f"user{n}@{domain}"], message(str(n)))

    await asyncio.gather(*(asyncio.to_thread(all_of_them, part) for part in range(4)))


@pytest.mark.parametrize("workers", [1, 2])
async def test_connections_never_pass_their_limit(world: World, workers: int):
    mx = await world.mx("example.test", content=Delay(0.02))
    await world.start(workers=workers, throttle={"max_connections": 8, "rate": "0", "connection_rate": "0"})
    await burst(world, 200)
    await mx.wait(200, 60)
    assert 1 < mx.peak <= 8


async def test_one_connection_means_one(world: World):
    mx = await world.mx("example.test")
    await world.start(workers=2, throttle={"max_connections": 1, "rate": "0", "connection_rate": "0"})
    await burst(world, 60)
    await mx.wait(60, 60)
    assert mx.peak == 1


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_rate_is_never_passed(world: World, workers: int):
    mx = await world.mx("example.test")
    await world.start(workers=workers, throttle={"rate": "30/s", "max_connections": 20, "connection_rate": "0"})
    await burst(world, 120)
    await mx.wait(120, 60)
    assert mx.peak_rate(1.0) <= 33, "what the network bunches together may pass it by a little, the relay does not"


async def test_a_domain_has_limits_of_its_own(world: World):
    mx = await world.mx("example.test", "other.test", content=Delay(0.02))
    await world.start(throttle={"rate": "0", "domain": {"example.test": {"max_connections": 1}}})
    await burst(world, 20)
    await mx.wait(20, 60)
    assert mx.peak == 1


async def test_connections_are_reused_and_replaced(world: World):
    mx = await world.mx("example.test")
    await world.start(throttle={"max_connections": 1, "messages_per_connection": 10, "rate": "0"})
    await burst(world, 50)
    await mx.wait(50, 60)
    carried = Counter(id(message.session) for message in mx.messages)
    assert max(carried.values()) == 10
    assert len(mx.sessions) <= 10


async def test_a_black_hole_costs_others_nothing(world: World):
    await world.mx("hole.test", greeting=Hang())
    good = await world.mx("example.test")
    await world.start(delivery={"command_timeout": "20s"})
    for n in range(20):
        await world.send(f"user{n}@hole.test")
    await burst(world, 100)
    await good.wait(100, 15)


async def test_a_dead_site_is_probed_not_hammered(world: World):
    host, _ = world.address("dead.test")
    assert host
    relay = await world.start(throttle={"backoff": "2s", "backoff_max": "10s"})
    for n in range(30):
        await world.send(f"user{n}@dead.test")
    async with asyncio.timeout(10):
        while "30" not in (shown := await relay.command("queue", "summary")) or "queued" not in shown.lower():
            await asyncio.sleep(0.1)
    listed = await relay.command("queue", "list", "--json", "--limit", "100")
    assert listed.count("refused") >= 30, "each tells why it waits"


async def test_a_421_pauses_the_lane(world: World):
    mx = await world.mx("example.test", mail=["421 4.7.0 too many messages", "250 2.1.0 ok"])
    await world.start()
    await burst(world, 10)
    await mx.wait(10, 60)
    await world.drained()
    assert len(mx.messages) == 10
