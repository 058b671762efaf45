"""When the writer waits for more to commit, and for how much."""

import threading

import pytest

from relay_queue.sqlite import pace
from relay_queue.sqlite.pace import BURST, INTERVAL, Pace

NOW = 1_000.0


def busy(enough: int = 1) -> Pace:
    """After commits in quick succession, each with so many awaited operations."""
    made = Pace()
    for _ in range(BURST + 1):
        made.plan(NOW, enough, enough)
        made.committing(NOW)
        made.learn(enough, in_time=True)
    return made


def test_on_an_idle_queue_nothing_waits():
    made = Pace()
    for n in range(50):
        now = NOW + n * 2 * INTERVAL
        assert made.plan(now, 1, 1) == (0.0, 0)
        made.committing(now)
        made.learn(1, in_time=True)


def test_a_single_client_never_waits_for_others():
    made = busy()
    assert made.plan(NOW, 1, 1) == (0.0, 0)


def test_under_load_a_commit_waits_for_as_many_as_the_last_had():
    most, missing = busy(5).plan(NOW, 2, 4)
    assert missing == 3
    assert 0 < most <= INTERVAL


def test_what_did_not_come_is_not_waited_for_again():
    made = busy(5)
    made.plan(NOW, 2, 2)
    made.committing(NOW)
    made.learn(3, in_time=False)
    assert made.plan(NOW, 2, 2)[1] == 1
    assert made.plan(NOW, 3, 3) == (0.0, 0)


def test_one_more_is_tried_from_time_to_time():
    made = busy(2)
    waits = []
    for _ in range(40):
        waits.append(made.plan(NOW, 2, 2)[1])
        made.committing(NOW)
        made.learn(2, in_time=not waits[-1])
    assert 1 <= sum(waits) <= 3


def test_commits_that_did_not_wait_run_up_no_debt():
    made = busy(2)
    for _ in range(1_000):
        made.committing(NOW)
    assert made.plan(NOW, 1, 1)[0] <= INTERVAL * 1.001
    assert made.plan(NOW + (BURST + 1) * INTERVAL, 1, 1) == (0.0, 0)


def test_outcomes_wait_an_interval_for_something_awaited():
    assert Pace().plan(NOW, 0, 3) == (INTERVAL, 1)
    assert Pace().plan(NOW, 0, 64) == (0.0, 0), "many need no company"


def test_what_comes_ends_the_waiting(monkeypatch):
    monkeypatch.setattr(pace, "INTERVAL", 60.0)
    made = Pace()
    made.came()  # committed long ago
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(made.wait(0, 1)))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    made.came()
    waiting.join(10)
    assert results == [True]


@pytest.mark.parametrize("came", [0, 3])
def test_waiting_in_vain_is_told(monkeypatch, came):
    monkeypatch.setattr(pace, "INTERVAL", 0.01)
    made = Pace()
    for _ in range(came):
        made.came()
    assert made.wait(0, 1) is False
