"""Replies that go out together: who waits, for how long, and what a fault among them does."""

import asyncio
import logging

from relay.smtp.server import outbox
from relay.smtp.server.outbox import Outbox


async def test_all_wait_until_the_loop_has_done_what_it_has():
    box, done = Outbox(), []
    for name in ("a", "b"):
        box.add(lambda name=name: done.append(name))
        done.append(f"worked for {name}")
    assert done == ["worked for a", "worked for b"]
    await asyncio.sleep(0)
    assert done[2:] == ["a", "b"]
    box.add(lambda: done.append("again"))
    await asyncio.sleep(0)
    assert done[4:] == ["again"]


async def test_many_do_not_wait():
    box, done = Outbox(), []
    for n in range(outbox._MOST + 1):
        box.add(lambda n=n: done.append(n))
    assert done == list(range(outbox._MOST))
    await asyncio.sleep(0)
    assert done == list(range(outbox._MOST + 1))


async def test_a_fault_of_one_keeps_no_other_waiting(caplog):
    box, done = Outbox(), []
    box.add(lambda: 1 // 0)
    box.add(lambda: done.append("b"))
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(0)
    assert done == ["b"]
    assert "ZeroDivisionError" in caplog.text
