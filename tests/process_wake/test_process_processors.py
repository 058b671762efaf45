"""Which CPU a worker is kept on, and when."""

import os

import pytest

from relay.process import processors
from relay.process.processors import Keeper


@pytest.mark.parametrize(
    ("workers", "cpus", "places"),
    [
        (2, [0, 1], [0, 1]),
        (3, [4, 6], [4, 6, 4]),
        (1, [0], [None]),
        (2, [0, 1, 2], [None, None]),
        (4, [7], [None] * 4),
    ],
)
def test_workers_as_many_as_cpus_have_one_each(workers, cpus, places):
    assert [processors.place(slot, workers, cpus) for slot in range(workers)] == places


@pytest.fixture
def moves(monkeypatch):
    """Two CPUs, and where threads were sent."""
    sent: list[tuple[int, set[int]]] = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", lambda thread, cpus: sent.append((thread, cpus)))
    return sent


def sent_to(moves):
    cpus = {frozenset(cpus) for _, cpus in moves}
    assert os.getpid() in {thread for thread, _ in moves}, "the main thread too"
    moves.clear()
    return cpus


def looks(keeper, *shares):
    """Seconds after each look at a second in which so much of a CPU was used."""
    now, used = keeper._at, keeper._used
    waits = []
    for share in shares:
        now, used = now + 1, used + share
        waits.append(keeper.look(now, used))
    return waits


def test_only_a_busy_worker_is_kept_and_only_as_long_as_it_is_busy(moves):
    keeper = Keeper(1, 2)
    assert looks(keeper, 0.0, 0.39) == [0.5, 0.25]
    assert not moves
    looks(keeper, 0.41)
    assert sent_to(moves) == {frozenset({1})}
    looks(keeper, 0.9, 0.16)
    assert not moves
    looks(keeper, 0.14)
    assert sent_to(moves) == {frozenset({0, 1})}
    looks(keeper, 0.14, 0.3)
    assert not moves


def test_nothing_is_kept_where_there_are_more_cpus_than_workers(moves):
    keeper = Keeper(0, 1)
    looks(keeper, 1.0, 1.0)
    assert not moves


def test_a_thread_that_has_ended_does_not_matter(moves, monkeypatch):
    def move(thread, cpus):
        if thread != os.getpid():
            raise ProcessLookupError
        moves.append((thread, cpus))

    monkeypatch.setattr(os, "sched_setaffinity", move)
    keeper = Keeper(0, 2)
    looks(keeper, 1.0)
    assert keeper.kept
    assert sent_to(moves) == {frozenset({0})}


def test_a_system_that_does_not_allow_it_is_asked_once(moves, monkeypatch):
    def refuse(thread, cpus):
        moves.append((thread, cpus))
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    keeper = Keeper(0, 2)
    looks(keeper, 1.0, 1.0, 0.0, 1.0)
    assert not keeper.kept
    assert len(moves) == 1
