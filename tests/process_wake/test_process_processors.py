"""Which CPU a worker stays on."""

import os

import pytest

from relay.process import processors


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


def test_a_system_that_does_not_allow_it_is_no_reason_not_to_start(monkeypatch):
    def refuse(pid, cpus):
        raise PermissionError(pid, cpus)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert processors.stay(0, 2) is None
