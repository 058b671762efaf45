"""What the router remembers, how long, and how much of it."""

import asyncio

import pytest

from relay_config.schema import Dns, Retry, Settings
from relay_config.schema import Route as Smarthost
from relay_config.words import Duration
from tests.support.dns import Fault
from tests.support.zones import found, learn, refused


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


@pytest.mark.parametrize("domain", ["example.org", "bare.example"])
async def test_a_retry_asks_anew_however_soon_it_comes(router_for, server, clock, domain):
    server.faults[domain] = Fault("servfail")
    router = router_for(retry=Retry(schedule=(Duration(300), Duration(10))))
    assert await refused(router, domain) == (False, "4.4.3")
    asked = sum(server.queries.values())
    clock.now += 4.9
    assert await refused(router, domain) == (False, "4.4.3")
    assert sum(server.queries.values()) == asked
    del server.faults[domain]
    clock.now += 0.2
    assert isinstance(await learn(router, domain), list)


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
