"""The router over the tests' DNS server: real look-ups, real caches."""

import asyncio
import random

import dns.resolver
import pytest
import uvloop

from relay.delivery.lookup import Failed, Family, FoundMx
from relay.delivery.resolver import DnsResolver, is_local
from relay.delivery.routing import Route, RouteError, Router
from relay.smtp.client.model import Target
from relay_config.schema import Delivery, Dns, Listener, Settings
from relay_config.schema import Route as Smarthost
from relay_config.words import Duration
from tests.support.descriptors import no_descriptors
from tests.support.dns import Fault, MiniDns

ZONES = {
    "example.org": {"MX": [(10, "mx1.example.org"), (20, "mx2.example.org")]},
    "mx1.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx2.example.org": {"A": ["192.0.2.2"]},
    "bare.example": {"A": ["192.0.2.3"]},
    "six.example": {"AAAA": ["2001:db8::3"]},
    "null.example": {"MX": [(0, ".")]},
    "mixed.example": {"MX": [(0, "."), (10, "mx2.example.org")]},
    "spaced.example": {"MX": [(1, (b"a b", b"example", b""))]},
    "nul.example": {"MX": [(1, (b"\0", b"example", b""))]},
    "numeric.example": {"MX": [(1, "192.0.2.1")]},
    "mapped.example": {"AAAA": ["::ffff:127.0.0.1"]},
    "nothing.example": {"TXT": ["hello"]},
    "zero.example": {"MX": [(10, "mx1.example.org")], "TTL": 0},
    "long.example": {"MX": [(10, "mx1.example.org")], "TTL": 864_000},
    "inside.example": {"MX": [(10, "inside1.example"), (20, "inside2.example")]},
    "inside1.example": {"A": ["127.0.0.1"]},
    "inside2.example": {"AAAA": ["::1"]},
    "half.example": {"MX": [(10, "inside1.example"), (20, "mx2.example.org")]},
    "ghost.example": {"MX": [(10, "no1.example"), (20, "no2.example")]},
    "partly.example": {"MX": [(10, "no1.example"), (20, "sick.example"), (30, "mx2.example.org")]},
    "sickly.example": {"MX": [(10, "no1.example"), (20, "sick.example")]},
    "sick.example": {"A": ["192.0.2.5"]},
    "big.example": {"MX": [(n, f"mx{n}.big.example") for n in range(1000)]},
    "*.big.example": {"A": ["192.0.2.7"]},
    "odd.example": {"MX": [(1, (b"a b", b"example", b"")), (2, (b"\0", b"example", b"")), (3, "192.0.2.1")]},
    "loop1.example": {"CNAME": "loop2.example"},
    "loop2.example": {"CNAME": "loop1.example"},
    "own.example": {"MX": [(10, "mx1.example.org"), (20, "relay.test")]},
    "self.example": {"MX": [(10, "relay.test"), (20, "mx1.example.org")]},
    "here.example": {"MX": [(10, "mx2.example.org"), (20, "mx1.example.org")]},
    "alias.example": {"MX": [(10, "mxalias.example")]},
    "mxalias.example": {"CNAME": "mx2.example.org"},
    **{f"c{n}.example": {"CNAME": f"c{n + 1}.example"} for n in range(12)},
    "c12.example": {"A": ["192.0.2.9"]},
}


class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def server():
    async with MiniDns({name: dict(zone) for name, zone in ZONES.items()}) as running:
        yield running


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def router_for(server, clock):
    routers = []

    def make(**changes):
        dns = changes.pop("dns", Dns(nameservers=(server.address,), timeout=Duration(2)))
        settings = Settings(hostname="relay.test", dns=dns, **changes)
        router = Router(settings, clock=clock, rng=random.Random(1), local=lambda _: False)
        routers.append(router)
        return router

    yield make
    for router in routers:
        await router.aclose()


async def found(router, domain):
    route = await router.route(domain)
    assert isinstance(route, Route), route
    return await router.addresses(route)


async def refused(router, domain):
    """The error, wherever it shows."""
    route = await router.route(domain)
    if isinstance(route, Route):
        route = await router.addresses(route)
    assert isinstance(route, RouteError), route
    return route.permanent, route.enhanced


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


@pytest.mark.parametrize("kind", ["servfail", "refused", "timeout", "garbage"])
async def test_name_servers_that_fail_are_temporary(router_for, server, kind):
    server.faults["example.org"] = Fault(kind)
    router = router_for(dns=Dns(nameservers=(server.address,), timeout=Duration(0.3)))
    assert await refused(router, "example.org") == (False, "4.4.3")


async def learn(router, domain):
    """The error in whole, wherever it shows."""
    route = await router.route(domain)
    return await router.addresses(route) if isinstance(route, Route) else route


@pytest.mark.parametrize("domain", ["example.org", "bare.example"])
async def test_a_look_up_that_we_could_not_make_is_no_fault_of_the_domain(router_for, server, clock, domain):
    router = router_for()
    with no_descriptors():
        error = await learn(router, domain)
    assert (error.permanent, error.enhanced, error.failure) == (False, "4.4.3", "local")
    assert "too many open files" in error.text
    assert not server.queries
    clock.now += 1.1
    assert isinstance(await learn(router, domain), list), "known within a second"


async def test_addresses_that_we_could_not_look_up_are_no_fault_of_the_site(router_for, clock):
    router = router_for()
    await router.route("example.org")
    with no_descriptors():
        error = await learn(router, "example.org")
    assert (error.permanent, error.enhanced, error.failure) == (False, "4.4.3", "local")
    clock.now += 1.1
    assert len(await found(router, "example.org")) == 3


def unreachable_network(loop_factory):
    async def scenario():
        # The kernel lets nobody send there who did not ask for broadcasts.
        settings = Settings(hostname="relay.test", dns=Dns(nameservers=("255.255.255.255:53",), timeout=Duration(5)))
        router = Router(settings)
        error = await learn(router, "example.org")
        await router.aclose()
        return error

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(scenario())


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_network_that_takes_no_packets_is_our_own_fault(loop_factory):
    error = unreachable_network(loop_factory)
    assert (error.permanent, error.enhanced, error.failure) == (False, "4.4.3", "local")
    assert "could not be asked" in error.text


async def test_no_name_server_there_at_all(router_for, server):
    address = server.address
    await server.aclose()
    router = router_for(dns=Dns(nameservers=(address,), timeout=Duration(0.3)))
    assert await refused(router, "example.org") == (False, "4.4.3")
    assert await refused(router, "bare.example") == (False, "4.4.3")


async def test_the_second_name_server_helps(router_for, server):
    server.faults["example.org"] = Fault("servfail")
    async with MiniDns(ZONES) as second:
        router = router_for(dns=Dns(nameservers=(server.address, second.address), timeout=Duration(2)))
        assert len(await found(router, "example.org")) == 3


@pytest.mark.parametrize("kind", ["wrong-id", "wrong-question", "wrong-source"])
async def test_forged_answers_are_ignored(router_for, server, kind):
    server.faults["example.org"] = Fault(kind)
    server.faults["mx1.example.org"] = Fault(kind)
    targets = await found(router_for(), "example.org")
    assert "192.0.2.66" not in [target.address for target in targets]
    assert len(targets) == 3


async def test_a_thousand_mx_come_by_tcp_and_are_capped(router_for, server):
    router = router_for()
    targets = await found(router, "big.example")
    assert server.tcp_queries == 1
    assert server.payload == 1232
    assert [target.host for target in targets] == [f"mx{n}.big.example" for n in range(8)]
    assert sum(count for (_, kind), count in server.queries.items() if kind == "A") <= 8


async def test_of_thousands_of_addresses_a_few_are_kept(server):
    server.zones["many.example"] = {"A": [f"192.0.{n // 250}.{n % 250 + 1}" for n in range(3000)]}
    resolver = DnsResolver(Dns(nameservers=(server.address,), timeout=Duration(2)))
    answer = await resolver.addresses("many.example", Family.V4)
    assert len(answer.records) == 64


async def test_hosts_without_a_usable_address_are_skipped(router_for, server):
    server.faults["sick.example"] = Fault("servfail")
    router = router_for()
    assert [t.address for t in await found(router, "partly.example")] == ["192.0.2.2"]
    assert [t.address for t in await found(router, "half.example")] == ["192.0.2.2"]
    assert await refused(router, "sickly.example") == (False, "4.4.3")


async def test_a_slow_host_does_not_hold_up_the_others(router_for, server, monkeypatch):
    monkeypatch.setattr("relay.delivery.routing._STRAGGLERS", 0.05)
    server.faults["mx1.example.org"] = Fault("timeout")
    router = router_for(dns=Dns(nameservers=(server.address,), timeout=Duration(30)))
    assert [t.address for t in await found(router, "example.org")] == ["192.0.2.2"]


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


async def test_a_route_is_asked_for_once_and_remembered(router_for, server, clock):
    router = router_for()
    assert router.cached("example.org", clock.now) is None
    routes = await asyncio.gather(*(router.route("example.org") for _ in range(50)))
    assert all(route is routes[0] for route in routes)
    assert server.queries["example.org", "MX"] == 1
    assert router.cached("example.org", clock.now) is routes[0]
    await asyncio.gather(*(router.addresses(routes[0]) for _ in range(50)))
    assert server.queries["mx1.example.org", "A"] == 1
    clock.now += 301
    assert router.cached("example.org", clock.now) is None
    assert await router.route("example.org") is routes[0]
    assert server.queries["example.org", "MX"] == 2


@pytest.mark.parametrize(("domain", "alive", "dead"), [("zero.example", 4, 6), ("long.example", 3599, 3601)])
async def test_ttls_are_clamped(router_for, clock, domain, alive, dead):
    router = router_for()
    await router.route(domain)
    assert router.cached(domain, clock.now + alive) is not None
    assert router.cached(domain, clock.now + dead) is None


async def test_errors_are_remembered_too(router_for, server, clock):
    server.faults["example.org"] = Fault("servfail", times=1)
    router = router_for()
    for _ in range(3):
        assert await refused(router, "example.org") == (False, "4.4.3")
        assert await refused(router, "missing.test") == (True, "5.1.2")
    assert server.queries["example.org", "MX"] == server.queries["missing.test", "MX"] == 1
    clock.now += 61
    assert len(await found(router, "example.org")) == 3


async def test_a_route_outlives_its_name_servers_for_a_day(router_for, server, clock):
    router = router_for()
    route = await router.route("example.org")
    targets = await router.addresses(route)
    for name in ("example.org", "mx1.example.org", "mx2.example.org"):
        server.faults[name] = Fault("servfail")
    clock.now += 80_000
    assert await router.route("example.org") is route
    assert await router.addresses(route) == targets
    clock.now += 10_000
    assert await refused(router, "example.org") == (False, "4.4.3")


async def test_a_domain_that_vanishes_is_not_kept_alive(router_for, server, clock):
    router = router_for()
    await router.route("example.org")
    server.faults["example.org"] = Fault("nxdomain")
    clock.now += 400
    assert await refused(router, "example.org") == (True, "5.1.2")
    server.faults["example.org"] = Fault("servfail")
    clock.now += 1000
    assert await refused(router, "example.org") == (False, "4.4.3")


async def test_flapping_name_servers_cost_delays_only(router_for, server, clock):
    server.faults["example.org"] = Fault("flap")
    router = router_for()
    assert await refused(router, "example.org") == (False, "4.4.3")
    clock.now += 61
    for _ in range(4):
        assert len(await found(router, "example.org")) == 3
        clock.now += 400


async def test_reload_looks_everything_up_anew(router_for, server):
    router = router_for()
    await found(router, "example.org")
    settings = Settings(
        hostname="relay.test",
        dns=Dns(nameservers=(server.address,)),
        route=(Smarthost(domains=("*",), relay_host="out.test:587"),),
    )
    router.reload(settings)
    assert (await router.route("example.org")).lane == "out.test:587"


async def test_the_memory_is_bounded(router_for, server):
    router = router_for(dns=Dns(nameservers=(server.address,), cache_size=100))
    for n in range(150):
        await router.route(f"mx{n}.big.example")
    assert len(router._routes) == 100
    assert len(router._hosts) == 100


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


async def test_a_machine_without_name_servers_says_so_and_is_asked_again(server, monkeypatch):
    """The network may come up after the relay."""
    resolv_conf = ""

    def read(self, file):
        if not resolv_conf:
            raise dns.resolver.NoResolverConfiguration("no nameservers")
        self.nameservers, self.port = [server.host], server.port

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", read)
    resolver = DnsResolver(Dns())
    answer = await resolver.mx("example.org")
    assert answer == Failed("no name server is configured on this machine", local=True)
    resolv_conf = "nameserver 127.0.0.1"
    assert isinstance(await resolver.mx("example.org"), FoundMx)


def test_it_runs_on_uvloop():
    async def scenario():
        async with MiniDns(ZONES, {"example.org": Fault("truncate")}) as server:
            settings = Settings(hostname="relay.test", dns=Dns(nameservers=(server.address,)))
            router = Router(settings)
            assert len(await found(router, "example.org")) == 3
            await router.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def test_own_addresses_are_known():
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")
    assert not is_local("not an address")
