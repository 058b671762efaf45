"""A rate is never passed in any span of its own length, and nearly reached under load."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.delivery.pace import Pace
from relay_config.words import Rate


def starts(rate: Rate, steps: list[float]) -> list[float]:
    """Simulate a lane that always has work and is woken after each of `steps` seconds."""
    pace, now, times = Pace(rate), 1000.0, []
    for step in steps:
        now += step
        while pace.ready_at(now) <= now:
            pace.take(now)
            times.append(now)
    return times


def most_in_a_span(times: list[float], span: float) -> int:
    most = first = 0
    for last, time in enumerate(times):
        while time - times[first] >= span - 1e-9:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("rate", [Rate(1, 1), Rate(2, 1), Rate(100, 1), Rate(1000, 1), Rate(10, 60), Rate(5, 3600)])
def test_the_rate_is_kept_and_nearly_reached(rate):
    step = min(0.003, rate.seconds / 50)
    times = starts(rate, [step] * int(3 * rate.seconds / step))
    assert most_in_a_span(times, rate.seconds) <= rate.amount
    assert len(times) >= 2.7 * rate.amount * 0.9


@given(
    amount=st.integers(1, 300),
    seconds=st.sampled_from([0.5, 1.0, 60.0]),
    steps=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
@settings(max_examples=100, deadline=None)
def test_no_pattern_of_wake_ups_passes_the_rate(amount, seconds, steps):
    times = starts(Rate(amount, seconds), steps)
    assert most_in_a_span(times, seconds) <= amount


def test_an_amount_of_zero_is_no_limit():
    pace = Pace(Rate(0, 1))
    for _ in range(10_000):
        assert pace.ready_at(5.0) <= 5.0
        pace.take(5.0)
