"""A route's error as people read it."""

from relay.delivery.outcome import judge_pause, judge_route
from relay.delivery.routes import RouteError


def test_mail_of_a_paused_lane_tells_the_cause_in_words():
    error = RouteError(False, "4.4.3", "MX look-up of x.test failed: timeout")
    assert judge_pause(str(error)).text == "not tried: 4.4.3 MX look-up of x.test failed: timeout"
    assert judge_route(error).text == "4.4.3 MX look-up of x.test failed: timeout"
