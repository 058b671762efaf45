"""Name servers that fail, lie or are not there, and look-ups that we cannot make ourselves."""

import asyncio
import itertools
import time
from types import SimpleNamespace

import dns.resolver
import pytest
import uvloop

from relay.delivery.lookup import Failed, Family, FoundMx
from relay.delivery.resolver import DnsResolver
from relay.delivery.routing import Router
from relay_config.schema import Dns, Settings
from relay_config.words import Duration
from tests.support.descriptors import no_descriptors
from tests.support.dns import Fault, MiniDns
from tests.support.zones import ZONES, found, learn, refused


@pytest.mark.parametrize("kind", ["servfail", "refused", "timeout", "garbage"])
async def test_name_servers_that_fail_are_temporary(router_for, server, kind):
    server.faults["example.org"] = Fault(kind)
    router = router_for(dns=Dns(nameservers=(server.address,), timeout=Duration(0.3)))
    assert await refused(router, "example.org") == (False, "4.4.3")


@pytest.mark.parametrize("jump", [5 * 86_400, -86_400])
async def test_a_clock_that_is_set_during_a_look_up_is_no_time_out(router_for, monkeypatch, jump):
    asks = itertools.count()
    wall = SimpleNamespace(time=lambda: time.time() + (jump if next(asks) == 0 else 0))
    monkeypatch.setattr(dns.resolver, "time", wall)
    assert len(await found(router_for(), "example.org")) == 3
    assert next(asks) > 1


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
    resolver = DnsResolver(Dns(nameservers=(server.address,), timeout=Duration(20)))
    answer = await resolver.addresses("many.example", Family.V4)
    assert len(answer.records) == 64


async def test_a_slow_host_does_not_hold_up_the_others(router_for, server, monkeypatch):
    monkeypatch.setattr("relay.delivery.routing._STRAGGLERS", 0.05)
    server.faults["mx1.example.org"] = Fault("timeout")
    router = router_for(dns=Dns(nameservers=(server.address,), timeout=Duration(30)))
    assert [t.address for t in await found(router, "example.org")] == ["192.0.2.2"]


async def test_flapping_name_servers_cost_delays_only(router_for, server, clock):
    server.faults["example.org"] = Fault("flap")
    router = router_for()
    assert await refused(router, "example.org") == (False, "4.4.3")
    clock.now += 61
    for _ in range(4):
        assert len(await found(router, "example.org")) == 3
        clock.now += 400


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
