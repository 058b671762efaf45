"""The rules of routing, without DNS and without a loop."""

import random

import pytest

from relay.delivery.lookup import Absent, Failed, FoundMx, Unaskable
from relay.delivery.routes import (
    Policy,
    Route,
    RouteError,
    cap_targets,
    is_host,
    order_addresses,
    order_hosts,
)
from relay.smtp.client.model import Target, TlsPolicy
from relay_config.schema import Delivery, Listener, Sandbox, Settings
from relay_config.schema import Route as Smarthost


def policy(**changes):
    return Policy(Settings(hostname="Relay.Example", **changes))


def mx(*records):
    return policy().by_mx("example.org", FoundMx(records, 300))


def test_hosts_are_grouped_by_preference_and_name_the_lane():
    route = mx((20, "c.example"), (10, "b.example"), (10, "a.example"))
    assert route == Route(
        "a.example,b.example,c.example", (("a.example", "b.example"), ("c.example",)), 25, TlsPolicy.OPPORTUNISTIC
    )


def test_the_lane_depends_neither_on_order_nor_preference():
    assert mx((1, "b.example"), (2, "a.example")).lane == mx((5, "a.example"), (5, "b.example")).lane


def test_a_host_listed_twice_counts_once_at_its_best():
    assert mx((20, "a.example"), (10, "a.example")).hosts == (("a.example",),)


def test_no_mx_leaves_the_domain_itself():
    assert mx() is None
    assert policy().implicit("example.org").hosts == (("example.org",),)


@pytest.mark.parametrize("records", [((0, ""),), ((10, ""),), ((0, ""), (0, ""))])
def test_null_mx_is_permanent(records):
    error = mx(*records)
    assert (error.permanent, error.enhanced) == (True, "5.1.10")


def test_null_mx_beside_others_is_ignored():
    assert mx((0, ""), (10, "a.example")).hosts == (("a.example",),)


BAD_HOSTS = [
    "has\\032space.example",
    "nul\\000.example",
    "192.0.2.1",
    "x" * 64 + ".example",
    "-a.example",
    "a..b",
    "ü.example",
]


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_bad_mx_names_are_skipped(host):
    assert not is_host(host)
    assert mx((1, host), (2, "a.example")).hosts == (("a.example",),)
    error = mx((1, host))
    assert (error.permanent, error.enhanced) == (False, "4.4.4")
    assert host not in error.text


@pytest.mark.parametrize("host", ["a", "mx_1.example", "1.example", "a-b.c3", "xn--bcher-kva.example", "x" * 63])
def test_good_mx_names(host):
    assert is_host(host)


def test_a_thousand_mx_are_capped_best_first():
    route = mx(*((n, f"mx{n:04}.example") for n in range(999, -1, -1)))
    assert route.hosts == tuple((f"mx{n:04}.example",) for n in range(20))


def test_a_thousand_equal_mx_give_the_same_lane_everywhere():
    records = [(10, f"mx{n:04}.example") for n in range(1000)]
    first = mx(*records)
    random.Random(1).shuffle(records)
    assert mx(*records) == first


def test_we_and_all_behind_us_are_dropped():
    route = mx((10, "a.example"), (20, "relay.example"), (20, "b.example"), (30, "c.example"))
    assert route.hosts == (("a.example",),)
    error = mx((10, "relay.example"), (10, "b.example"), (20, "c.example"))
    assert (error.permanent, error.enhanced) == (True, "5.4.6")


@pytest.mark.parametrize(
    ("answer", "permanent", "enhanced"),
    [
        (Absent(60), True, "5.1.2"),
        (Failed("SERVFAIL"), False, "4.4.3"),
        (Unaskable("not a domain name"), True, "5.1.2"),
    ],
)
def test_failed_look_ups(answer, permanent, enhanced):
    error = policy().by_mx("example.org", answer)
    assert isinstance(error, RouteError)
    assert (error.permanent, error.enhanced, error.failure) == (permanent, enhanced, "dns")


@pytest.mark.parametrize(
    ("domain", "address"),
    [("[192.0.2.1]", "192.0.2.1"), ("[IPv6:2001:db8::1]", "2001:db8::1"), ("[ipv6:2001:db8::1]", "2001:db8::1")],
)
def test_address_literals(domain, address):
    route = policy().literal(domain)
    assert route.hosts == ((address,),)
    assert route.lane == domain.lower()
    assert route.checked


@pytest.mark.parametrize("domain", ["[192.0.2]", "[x]", "[]", "[", "[192.0.2.1", "[IPv6:fe80::1%eth0]", "[IPv6:]"])
def test_bad_address_literals(domain):
    error = policy().literal(domain)
    assert (error.permanent, error.enhanced) == (True, "5.1.2")


def test_names_are_no_literals():
    assert policy().literal("example.org") is None


SMARTHOSTS = (
    Smarthost(domains=("example.org", "*.example.net"), relay_host="Out.example:587", tls="verify"),
    Smarthost(domains=("*",), relay_host="[2001:db8::9]:25", tls="none"),
)


@pytest.mark.parametrize(
    ("domain", "lane"),
    [
        ("example.org", "out.example:587"),
        ("sub.example.org", "[2001:db8::9]:25"),
        ("a.b.example.net", "out.example:587"),
        ("example.net", "[2001:db8::9]:25"),
        ("notexample.net", "[2001:db8::9]:25"),
        ("[192.0.2.1]", "[2001:db8::9]:25"),
    ],
)
def test_the_first_matching_smarthost_wins(domain, lane):
    assert policy(route=SMARTHOSTS).fixed(domain).lane == lane


def test_a_smarthost_route():
    route = policy(route=SMARTHOSTS).fixed("example.org")
    assert route == Route("out.example:587", (("out.example",),), 587, TlsPolicy.VERIFY, SMARTHOSTS[0], checked=False)


def test_the_sandbox_takes_everything():
    route = policy(route=SMARTHOSTS, sandbox=Sandbox(receiver="127.0.0.1:2599")).fixed("example.org")
    assert route == Route("127.0.0.1:2599", (("127.0.0.1",),), 2599, TlsPolicy.NONE, checked=False)


def test_delivery_settings_shape_routes_by_mx():
    route = policy(delivery=Delivery(port=2525, tls="required")).implicit("example.org")
    assert (route.port, route.tls) == (2525, TlsPolicy.REQUIRED)


@pytest.mark.parametrize(
    ("address", "prohibited"),
    [
        ("127.9.9.9", True),
        ("::1", True),
        ("::", True),
        ("0.0.0.0", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_prohibited_networks(address, prohibited):
    assert policy().prohibited(address) is prohibited
    assert policy().allows(address) is not prohibited


def test_families_can_be_switched_off():
    assert not policy(delivery=Delivery(ipv6=False)).allows("2001:db8::1")
    assert not policy(delivery=Delivery(ipv4=False)).allows("192.0.2.1")


def test_our_own_listeners():
    rules = policy(listener=(Listener(address="0.0.0.0:25"), Listener(address="192.0.2.7:587")))
    assert rules.ours("192.0.2.7", 587, lambda _: False)
    assert not rules.ours("192.0.2.7", 25, lambda _: False)
    assert rules.ours("192.0.2.7", 25, lambda _: True)
    assert not rules.ours("192.0.2.8", 587, lambda _: True)


@pytest.mark.parametrize("listener", ["[2001:DB8:0::7]:25", "[2001:db8::7]:25"])
@pytest.mark.parametrize("literal", ["[IPv6:2001:db8::7]", "[IPv6:2001:DB8:0:0:0:0:0:7]"])
def test_our_own_listeners_in_any_spelling(listener, literal):
    rules = policy(listener=(Listener(address=listener),))
    ((address,),) = rules.literal(literal).hosts
    assert rules.ours(address, 25, lambda _: False)


def test_our_own_listeners_in_the_clothes_of_ipv6():
    rules = policy(listener=(Listener(address="192.0.2.7:25"),))
    assert rules.ours("::ffff:192.0.2.7", 25, lambda _: False)
    everywhere = policy(listener=(Listener(address="0.0.0.0:25"),))
    assert everywhere.ours("::ffff:192.0.2.7", 25, lambda address: address == "192.0.2.7")


def test_equal_hosts_are_shuffled_and_preferences_kept():
    route = Route("x", (("a", "b", "c"), ("d",)), 25, TlsPolicy.NONE)
    orders = {tuple(order_hosts(route, random.Random(seed))) for seed in range(50)}
    assert len(orders) == 6
    assert all(order[-1] == "d" for order in orders)


def test_families_alternate():
    ordered = order_addresses(["::a", "::b", "::c"], ["192.0.2.1"], random.Random(1))
    assert [":" in address for address in ordered] == [True, False, True, True]
    assert sorted(ordered) == ["192.0.2.1", "::a", "::b", "::c"]


def test_targets_are_capped_and_shared_out():
    many = [f"192.0.2.{n}" for n in range(20)]
    assert len(cap_targets([("a", many)], 25, 8)) == 8
    targets = cap_targets([("a", many), ("b", many[:2]), ("c", many)], 25, 8)
    assert [target.host for target in targets] == ["a"] * 4 + ["b"] * 2 + ["c"] * 2
    assert cap_targets([("a", many), ("b", many)], 26, 1) == [Target("a", "192.0.2.0", 26)]


def smarthosts(*kinds):
    """Routes to one host, each of (TLS policy, user, password file), and one to another host."""
    routes = [
        Smarthost(domains=(f"d{n}.test",), relay_host="hub.test:587", tls=tls, user=user, password_file=file)
        for n, (tls, user, file) in enumerate(kinds)
    ]
    return policy(route=(*routes, Smarthost(domains=("other.test",), relay_host="other.test:587", tls="none")))


@pytest.mark.parametrize(
    ("kinds", "variants"),
    [
        ([("none", None, None)], [""]),
        ([("none", None, None), ("none", None, None)], ["", ""]),
        ([("none", None, None), ("required", None, None)], ["none", "required"]),
        ([("verify", "ann", "a"), ("verify", "bob", "b")], ["verify-ann", "verify-bob"]),
        ([("verify", "ann", "a"), ("verify", None, None)], ["verify-ann", "verify-anonymous"]),
        ([("verify", "ann", "a"), ("verify", "ann", "b")], ["verify-ann#1", "verify-ann#2"]),
        ([("verify", "ann", "a"), ("none", None, None)], ["verify", "none"]),
        ([("verify", "a/b #c", "a"), ("verify", "bob", "b")], ["verify-a_b__c", "verify-bob"]),
    ],
)
def test_routes_to_one_host_have_lanes_of_their_own_where_they_connect_in_other_ways(kinds, variants):
    rules = smarthosts(*kinds)
    routes = [rules.fixed(f"d{n}.test") for n in range(len(kinds))]
    assert [route.variant for route in routes] == variants
    assert {route.lane for route in routes} == {"hub.test:587"}
    assert len({route.name for route in routes}) == len({route.manner for route in routes})
    assert rules.fixed("other.test").name == "other.test:587"


def test_a_user_whose_name_differs_in_odd_characters_alone_has_a_lane_of_its_own():
    rules = smarthosts(("verify", "a/b", "a"), ("verify", "a#b", "b"))
    assert rules.fixed("d0.test").name != rules.fixed("d1.test").name


def test_which_routes_the_settings_still_offer():
    old, new = smarthosts(("none", None, None)), smarthosts(("required", None, None))
    assert old.offers(old.fixed("d0.test"))
    assert not new.offers(old.fixed("d0.test"))
    assert new.offers(old.fixed("other.test"))
    assert not smarthosts(("none", None, None), ("verify", None, None)).offers(old.fixed("d0.test")), "its name differs"
    by_mx = old.implicit("mx.test")
    assert new.offers(by_mx)
    assert not policy(delivery=Delivery(tls="required")).offers(by_mx)
    assert not policy(delivery=Delivery(port=26)).offers(by_mx)
    assert not policy(sandbox=Sandbox(receiver="127.0.0.1:2599")).offers(by_mx)
