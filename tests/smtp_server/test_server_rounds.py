"""Rounds: what waits for what, for how long, and what a fault among them does."""

import asyncio
import logging

from relay.smtp.server import rounds
from relay.smtp.server.rounds import Rounds


async def test_all_are_worked_for_before_the_first_is_written_to():
    turn, done = Rounds(), []
    for name in ("a", "b"):

        def work(name: str = name) -> None:
            done.append(f"worked for {name}")
            turn.write(lambda: done.append(f"wrote to {name}"))

        turn.work(work)
    assert done == []
    await asyncio.sleep(0)
    assert done == ["worked for a", "worked for b", "wrote to a", "wrote to b"]


async def test_replies_go_out_without_work_too():
    turn, done = Rounds(), []
    turn.write(lambda: done.append("a"))
    turn.write(lambda: done.append("b"))
    assert done == []
    await asyncio.sleep(0)
    assert done == ["a", "b"]


async def test_who_is_not_done_waits_for_the_next_round():
    turn, done = Rounds(), []

    def work() -> None:
        done.append("first")
        turn.work(lambda: done.append("second"))
        turn.write(lambda: done.append("written"))

    turn.work(work)
    await asyncio.sleep(0)
    assert done == ["first", "written"]
    await asyncio.sleep(0)
    assert done == ["first", "written", "second"]


async def test_many_do_not_wait():
    for kind in ("work", "write"):
        turn, done = Rounds(), []
        for n in range(rounds._MOST + 1):
            getattr(turn, kind)(lambda n=n, done=done: done.append(n))
        assert done == list(range(rounds._MOST))
        await asyncio.sleep(0)
        assert done == list(range(rounds._MOST + 1))


async def test_a_fault_of_one_keeps_no_other_waiting(caplog):
    turn, done = Rounds(), []
    turn.work(lambda: 1 // 0)
    turn.work(lambda: done.append("worked"))
    turn.write(lambda: 1 // 0)
    turn.write(lambda: done.append("wrote"))
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(0)
    assert done == ["worked", "wrote"]
    assert caplog.text.count("ZeroDivisionError") == 2
