"""Rounds: what waits for what, for how long, and what a fault among them does."""

import asyncio
import logging
from collections.abc import Callable

from relay.smtp.server import rounds
from relay.smtp.server.rounds import Rounds


class Client:
    """Notes what is done for it."""

    def __init__(self, name: str, done: list[str], then: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.done = done
        self.then = then

    def take_turn(self) -> None:
        self.done.append(f"worked for {self.name}")
        self.then()

    def send_replies(self) -> None:
        self.done.append(f"wrote to {self.name}")

    def abort(self) -> None:
        self.done.append(f"ended {self.name}")


class Broken(Client):
    def take_turn(self) -> None:
        raise ZeroDivisionError

    def send_replies(self) -> None:
        raise ZeroDivisionError


async def test_all_are_worked_for_before_the_first_is_written_to():
    turns, done = Rounds(), []
    for name in ("a", "b"):
        client = Client(name, done)
        client.then = lambda client=client: turns.has_replies(client)
        turns.arrived(client)
    assert done == []
    await asyncio.sleep(0)
    assert done == ["worked for a", "worked for b", "wrote to a", "wrote to b"]


async def test_replies_go_out_without_work_too():
    turns, done = Rounds(), []
    turns.has_replies(Client("a", done))
    turns.has_replies(Client("b", done))
    assert done == []
    await asyncio.sleep(0)
    assert done == ["wrote to a", "wrote to b"]


async def test_who_is_not_done_waits_for_the_next_round():
    turns, done = Rounds(), []
    first, again = Client("a", done), Client("a again", done)
    first.then = lambda: (turns.arrived(again), turns.has_replies(first))
    turns.arrived(first)
    await asyncio.sleep(0)
    assert done == ["worked for a", "wrote to a"]
    await asyncio.sleep(0)
    assert done[2:] == ["worked for a again"]


async def test_many_do_not_wait():
    for kind in ("arrived", "has_replies"):
        turns, done = Rounds(), []
        for n in range(rounds._MOST + 1):
            getattr(turns, kind)(Client(str(n), done))
        assert len(done) == rounds._MOST
        await asyncio.sleep(0)
        assert len(done) == rounds._MOST + 1


async def test_a_fault_of_one_ends_it_and_keeps_no_other_waiting(caplog):
    turns, done = Rounds(), []
    turns.arrived(Broken("a", done))
    turns.arrived(Client("b", done))
    turns.has_replies(Broken("c", done))
    turns.has_replies(Client("d", done))
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(0)
    assert done == ["ended a", "worked for b", "ended c", "wrote to d"]
    assert caplog.text.count("internal error in a connection") == 2
