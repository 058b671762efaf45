"""Limits of lanes: defaults, sites, domains."""

import pytest

from relay.delivery.routes import Route
from relay.delivery.site import limits_for
from relay.smtp.client.model import TlsPolicy
from relay_config.schema import Lane, LaneOverride, Throttle
from relay_config.words import Duration, Rate


def route(*hosts, lane=None):
    return Route(lane or ",".join(sorted(hosts)), tuple((host,) for host in hosts), 25, TlsPolicy.NONE)


def most(throttle, *hosts, domain="example.org", lane=None):
    return limits_for(throttle, route(*hosts, lane=lane), domain)[1].max_connections


def sites(**counts):
    return Throttle(site={name: LaneOverride(max_connections=count) for name, count in counts.items()})


def test_defaults_are_the_throttle_s_own():
    throttle = Throttle(max_connections=3, rate=Rate(5, 60.0), backoff=Duration(7))
    name, limits = limits_for(throttle, route("mx.example.org"), "example.org")
    assert name == "mx.example.org"
    assert limits == Lane(max_connections=3, rate=Rate(5, 60.0), backoff=Duration(7))
    assert type(limits) is Lane


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (("mx.l.google.com",), 3),
        (("mx.google.com",), 2),
        (("google.com",), 1),
        (("special.google.com",), 4),
        (("own.example", "mx.l.google.com"), 3),
        (("mx.google.com", "special.google.com"), 4),
        (("notgoogle.com",), 1),
    ],
)
def test_the_most_specific_site_wins(hosts, expected):
    throttle = sites(**{"*": 1, "*.google.com": 2, "*.l.google.com": 3, "special.google.com": 4})
    assert most(throttle, *hosts) == expected


def test_no_match_keeps_the_default():
    assert most(sites(**{"*.google.com": 2}), "mx.example.org") == 10


def test_a_smarthost_by_host_and_port():
    throttle = sites(**{"smtp.example.net:587": 5, "smtp.example.net": 6})
    assert most(throttle, "smtp.example.net", lane="smtp.example.net:587") == 5
    assert most(throttle, "smtp.example.net", lane="smtp.example.net:25") == 6


def test_a_domain_of_its_own_limits_has_its_own_lane():
    throttle = Throttle(
        max_connections=20,
        site={"*.google.com": LaneOverride(max_connections=5, rate=Rate(1, 1.0))},
        domain={"example.org": LaneOverride(max_connections=2)},
    )
    google = route("mx.google.com")
    assert limits_for(throttle, google, "example.org") == (
        "mx.google.com/example.org",
        Lane(max_connections=2, rate=Rate(1, 1.0)),
    )
    assert limits_for(throttle, google, "example.net")[0] == "mx.google.com"


def test_an_override_may_lift_a_limit():
    throttle = Throttle(domain={"example.org": LaneOverride(rate=Rate(0, 1.0))})
    assert limits_for(throttle, route("mx.example.org"), "example.org")[1].rate == Rate(0, 1.0)
