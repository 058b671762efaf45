"""The router over the tests' DNS server: real look-ups, real caches."""

import pytest

from relay.delivery.lookup import Family, FoundMx
from relay.delivery.resolver import is_local
from relay.delivery.routing import Router
from relay.smtp.client.model import Target
from relay_config.schema import Delivery, Listener, Settings
from relay_config.schema import Route as Smarthost
from tests.support.dns import Fault
from tests.support.zones import found, refused


async def test_mx_in_order_with_both_families(router_for):
    assert await found(router_for(), "example.org") == [
        Target("mx1.example.org", "2001:db8::1", 25),
        Target("mx1.example.org", "192.0.2.1", 25),
        Target("mx2.example.org", "192.0.2.2", 25),
    ]


async def test_families_switched_off_are_not_asked_for(router_for, server):
    router = router_for(delivery=Delivery(ipv6=False))
    assert [t.address for t in await found(router, "example.org")] == ["192.0.2.1", "192.0.2.2"]
    assert server.queries["mx1.example.org", "AAAA"] == 0
    assert await refused(router, "six.example") == (False, "4.4.4")


async def test_no_mx_means_the_domain_itself(router_for):
    router = router_for()
    assert await found(router, "bare.example") == [Target("bare.example", "192.0.2.3", 25)]
    assert await found(router, "six.example") == [Target("six.example", "2001:db8::3", 25)]
    assert (await router.route("bare.example")).lane == "bare.example"


async def test_an_mx_that_is_an_alias_is_tolerated(router_for):
    assert await found(router_for(), "alias.example") == [Target("mxalias.example", "192.0.2.2", 25)]


@pytest.mark.parametrize(
    ("domain", "error"),
    [
        ("null.example", (True, "5.1.10")),
        ("missing.test", (True, "5.1.2")),
        ("nothing.example", (True, "5.4.4")),
        ("ghost.example", (True, "5.4.4")),
        ("inside.example", (True, "5.4.6")),
        ("self.example", (True, "5.4.6")),
        ("odd.example", (False, "4.4.4")),
        ("spaced.example", (False, "4.4.4")),
        ("nul.example", (False, "4.4.4")),
        ("numeric.example", (False, "4.4.4")),
        ("mapped.example", (True, "5.4.6")),
        ("loop1.example", (False, "4.4.3")),
        ("c0.example", (False, "4.4.3")),
        ("[127.0.0.1]", (True, "5.4.6")),
        ("[IPv6:::ffff:127.0.0.1]", (True, "5.4.6")),
        ("[nonsense]", (True, "5.1.2")),
        ("a" * 64 + ".example", (True, "5.1.2")),
        ("a..example", (True, "5.1.2")),
        (".".join(["a" * 60] * 5), (True, "5.1.2")),
        ("bücher.example", (True, "5.1.2")),
    ],
)
async def test_no_way(router_for, domain, error):
    assert await refused(router_for(), domain) == error


async def test_a_null_mx_beside_others_is_ignored(router_for):
    assert await found(router_for(), "mixed.example") == [Target("mx2.example.org", "192.0.2.2", 25)]


async def test_odd_names_in_mx_records_are_told_to_nobody(router_for):
    for domain in ("odd.example", "spaced.example", "nul.example"):
        error = await router_for().route(domain)
        assert error.text == f"none of the MX records of {domain} names a host"


async def test_up_to_eight_aliases_are_followed(router_for):
    router = router_for()
    assert await found(router, "c4.example") == [Target("c4.example", "192.0.2.9", 25)]
    assert await refused(router, "c3.example") == (False, "4.4.3")


async def test_hosts_without_a_usable_address_are_skipped(router_for, server):
    server.faults["sick.example"] = Fault("servfail")
    router = router_for()
    assert [t.address for t in await found(router, "partly.example")] == ["192.0.2.2"]
    assert [t.address for t in await found(router, "half.example")] == ["192.0.2.2"]
    assert await refused(router, "sickly.example") == (False, "4.4.3")


async def test_we_as_mx_end_the_list(router_for):
    assert [t.host for t in await found(router_for(), "own.example")] == ["mx1.example.org"] * 2


async def test_our_address_among_the_mx_ends_the_list(router_for, server):
    router = router_for(listener=(Listener(address="192.0.2.1:25"),))
    assert await refused(router, "example.org") == (True, "5.4.6")
    assert [t.host for t in await found(router, "here.example")] == ["mx2.example.org"]
    # The better host may be back soon: no loop is proven while its address is unknown.
    server.faults["mx2.example.org"] = Fault("servfail")
    router = router_for(listener=(Listener(address="192.0.2.1:25"),))
    assert await refused(router, "here.example") == (False, "4.4.3")


async def test_prohibited_networks_are_a_setting_and_do_not_bind_smarthosts(router_for):
    assert len(await found(router_for(delivery=Delivery(prohibited_networks=())), "inside.example")) == 2
    smarthosts = (
        Smarthost(domains=("a.test",), relay_host="127.0.0.1:2599"),
        Smarthost(domains=("b.test",), relay_host="inside1.example:26"),
        Smarthost(domains=("c.test",), relay_host="localhost:27"),
        Smarthost(domains=("d.test",), relay_host="missing.test:28"),
    )
    router = router_for(route=smarthosts)
    assert await found(router, "a.test") == [Target("127.0.0.1", "127.0.0.1", 2599)]
    assert await found(router, "b.test") == [Target("inside1.example", "127.0.0.1", 26)]
    assert [t.address for t in await found(router, "c.test")] == ["::1", "127.0.0.1"]
    assert await refused(router, "d.test") == (False, "4.4.4")


class Broken:
    """A bug in the resolver."""

    async def mx(self, name):
        if name == "mx.bug":
            raise RuntimeError("boom")
        return FoundMx(((1, "a.bug"),), 60)

    async def addresses(self, name, family):
        assert isinstance(family, Family)
        raise RuntimeError("boom")


async def test_a_bug_is_a_delay_for_one_domain(caplog):
    router = Router(Settings(hostname="relay.test"), lookups=lambda _: Broken())
    assert await refused(router, "mx.bug") == (False, "4.3.0")
    assert await refused(router, "host.bug") == (False, "4.3.0")
    assert "boom" in caplog.text
    await router.aclose()


def test_own_addresses_are_known():
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")
    assert not is_local("not an address")
