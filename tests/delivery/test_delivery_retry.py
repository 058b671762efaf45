"""The retry schedule is a function; these are its values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.retry import decide, latest
from relay_config.schema import LaneOverride, Retry, Settings, Throttle
from relay_config.words import Duration

RETRY = Retry(
    schedule=(Duration(60), Duration(600), Duration(3600)),
    expire_after=Duration(7200),
    delay_notice_after=Duration(1800),
    jitter=0.0,
)


def at(attempts: int, age: float, retry: Retry = RETRY, random: float = 0.5):
    return decide(retry, attempts=attempts, received_at=1000.0, now=1000.0 + age, random=random)


@pytest.mark.parametrize(("attempts", "wait"), [(1, 60), (2, 600), (3, 3600), (4, 3600)])
def test_waits_follow_the_schedule_and_the_last_repeats(attempts, wait):
    assert at(attempts, 10).due_at == 1010.0 + wait


def test_the_last_attempt_is_made_at_the_moment_of_expiry():
    assert at(4, 7000).due_at == 1000.0 + 7200


def test_a_message_expires_with_the_first_failure_after_its_time():
    assert at(4, 7200).due_at is None
    assert at(4, 7199).due_at is not None


def test_an_old_message_that_was_hardly_tried_is_not_expired():
    """As after five days of outage, or a clock that jumped ahead."""
    assert at(1, 5 * 86_400).due_at == 1000.0 + 5 * 86_400 + 60
    assert at(2, 5 * 86_400).due_at == 1000.0 + 5 * 86_400 + 600
    assert at(3, 5 * 86_400).due_at == 1000.0 + 5 * 86_400 + 3600
    assert at(4, 5 * 86_400).due_at is None


@pytest.mark.parametrize("wait", [10, 7200])
def test_a_first_attempt_during_which_the_clock_jumped_is_not_the_last(wait):
    retry = Retry(schedule=(Duration(wait),), expire_after=Duration(7200), jitter=0.1)
    assert at(1, 5 * 86_400, retry).due_at == 1000.0 + 5 * 86_400 + wait
    assert at(2, 5 * 86_400, retry).due_at is None


def test_waits_that_come_after_expiry_are_no_reason_to_go_on():
    retry = Retry(schedule=(Duration(60), Duration(600), Duration(3600)), expire_after=Duration(900), jitter=0.0)
    assert at(2, 660, retry).due_at == 1900.0
    assert at(3, 900, retry).due_at is None


def test_a_clock_that_went_back_neither_expires_nor_hurries():
    decision = at(5, -86_400)
    assert decision.due_at == 1000.0 - 86_400 + 3600
    assert not decision.delay_notice


def test_delay_notice_from_its_age_on():
    assert not at(2, 1799).delay_notice
    assert at(2, 1800).delay_notice


@given(random=st.floats(0, 1, exclude_max=True), attempts=st.integers(1, 50), age=st.floats(0, 7000))
def test_jitter_stays_within_its_part(random, attempts, age):
    retry = Retry(schedule=(Duration(100),), expire_after=Duration(1e9), jitter=0.2)
    due_at = at(attempts, age, retry, random).due_at
    assert due_at is not None
    assert 80 - 1e-6 <= due_at - (1000 + age) <= 120 + 1e-6


@pytest.mark.parametrize(
    ("schedule", "pause", "special_pause", "wait"),
    [((1,), 60, 120, 600), ((3600, 60), 1800, 1800, 4320), ((60,), 7200, 1, 7920), ((60,), 60, 7200, 7920)],
)
def test_no_due_time_is_later_than_the_longest_wait_allows(schedule, pause, special_pause, wait):
    special = {"a.test": LaneOverride(), "b.test": LaneOverride(backoff_max=Duration(special_pause))}
    settings = Settings(
        hostname="relay.test",
        data_dir="data",
        retry=Retry(schedule=tuple(Duration(step) for step in schedule), jitter=0.2),
        throttle=Throttle(backoff_max=Duration(pause), domain=special),
    )
    assert latest(settings, 1000.0) == (1600.0, pytest.approx(1000.0 + wait))
