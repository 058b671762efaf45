"""The planner of timeouts, with times made up."""

from relay.smtp.server import texts
from relay.smtp.server.timers import STRESSED_IDLE, Timers
from relay_config.schema import Limits
from relay_config.words import Duration

LIMITS = Limits(idle_timeout=Duration(300), session_timeout=Duration(3600), data_rate=500)


def test_an_idle_session_ends_after_its_time():
    timers = Timers(LIMITS, 1000.0)
    assert timers.check(1000.0, 0) == 1060.0
    assert timers.check(1290.0, 0) == 1300.0
    assert timers.check(1300.0, 0) is texts.IDLE


def test_octets_without_a_command_are_idleness():
    timers = Timers(LIMITS, 0.0)
    assert timers.check(300.0, 10) is texts.IDLE


def test_a_command_begins_it_anew():
    timers = Timers(LIMITS, 0.0)
    timers.active_at = 299.0
    assert timers.check(300.0, 0) == 360.0
    assert timers.check(599.0, 0) is texts.IDLE


def test_under_stress_idleness_is_short():
    timers = Timers(LIMITS, 0.0)
    assert timers.check(9.0, 0, stressed=True) == STRESSED_IDLE
    assert timers.check(10.0, 0, stressed=True) is texts.IDLE


def test_a_busy_server_waits_for_itself():
    timers = Timers(LIMITS, 0.0)
    assert timers.check(1_000_000.0, 0, busy=True) == 1_000_060.0


def test_a_session_ends_after_its_time():
    timers = Timers(LIMITS, 0.0)
    timers.active_at = 3590.0
    assert timers.check(3599.0, 0) == 3600.0
    assert timers.check(3600.0, 0) is texts.SESSION_OVER


def test_a_slow_message_is_broken_off():
    timers = Timers(LIMITS, 0.0)
    timers.begin_message(30.0, 200)
    timers.active_at = 60.0
    assert timers.check(60.0, 230) == 90.0
    timers.active_at = 90.0
    assert timers.check(90.0, 260) is texts.TOO_SLOW


def test_a_large_message_may_take_longer_than_a_session():
    """30 MB at 10 kB/s take 50 minutes; begun late they outlast the hour."""
    timers = Timers(LIMITS, 0.0)
    octets = 100
    now = 1800.0
    timers.begin_message(now, octets)
    for _ in range(50):
        now += 60.0
        octets += 600_000
        timers.active_at = now
        assert timers.check(now, octets) == now + 60.0
    timers.receiving = False
    assert timers.check(now, octets) is texts.SESSION_OVER


def test_octets_that_nobody_wants_do_not_outlast_a_session():
    """A message that is refused already, or a chunk without a transaction, is read to its end in vain."""
    timers = Timers(LIMITS, 0.0)
    timers.begin_message(3000.0, 0)
    timers.active_at = 3590.0
    octets = 600_000
    assert timers.check(3590.0, octets, wanted=False) == 3600.0
    assert timers.check(3600.0, octets, wanted=False) is texts.SESSION_OVER


def test_a_message_that_stops_is_broken_off():
    timers = Timers(Limits(data_rate=0), 0.0)
    timers.begin_message(0.0, 0)
    timers.active_at = 10.0
    assert timers.check(309.0, 1) == 310.0
    assert timers.check(310.0, 1) is texts.IDLE
