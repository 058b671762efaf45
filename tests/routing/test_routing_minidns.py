"""The tests' own DNS server answers as a resolver does."""

import dns.asyncresolver
import dns.exception
import dns.resolver
import pytest

from tests.support.dns import Fault, MiniDns, dns_in_thread

ZONES = {
    "example.org": {"MX": [(10, "mx1.example.org"), (20, "mx2.example.org")], "TTL": 77},
    "mx1.example.org": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "alias.example.org": {"CNAME": "mx1.example.org"},
    "loop1.example": {"CNAME": "loop2.example"},
    "loop2.example": {"CNAME": "loop1.example"},
    "*.wild.example": {"A": ["192.0.2.9"]},
    "big.example": {"MX": [(n, f"mx{n}.big.example") for n in range(1000)]},
    "odd.example": {"MX": [(1, (b"a b", b"\0", b"example", b""))]},
}


def resolver_for(server, lifetime=1.0):
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [server.host]
    resolver.port = server.port
    resolver.lifetime = lifetime
    return resolver


async def test_records_chain_wildcard_and_counts():
    async with MiniDns(ZONES) as server:
        resolver = resolver_for(server)
        mx = await resolver.resolve("Example.org", "MX")
        assert sorted(r.to_text().lower() for r in mx) == ["10 mx1.example.org.", "20 mx2.example.org."]
        assert mx.rrset.ttl == 77
        assert [r.address for r in await resolver.resolve("alias.example.org", "A")] == ["192.0.2.1"]
        assert [r.address for r in await resolver.resolve("x.wild.example", "A")] == ["192.0.2.9"]
        assert server.queries["example.org", "MX"] == 1
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("no.such", "A")
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve("wild.example", "A")
        with pytest.raises(dns.resolver.NoAnswer):
            await resolver.resolve("mx1.example.org", "MX")
        odd = await resolver.resolve("odd.example", "MX")
        assert odd[0].exchange.labels[0] == b"a b"


async def test_large_and_truncated_answers_come_by_tcp():
    async with MiniDns(ZONES, {"example.org": Fault("truncate")}) as server:
        resolver = resolver_for(server)
        assert len(await resolver.resolve("big.example", "MX")) == 1000
        assert len(await resolver.resolve("example.org", "MX")) == 2
        assert server.tcp_queries == 2


@pytest.mark.parametrize("kind", ["servfail", "refused", "timeout", "garbage"])
async def test_faults_without_an_answer(kind):
    async with MiniDns(ZONES, {"example.org": Fault(kind)}) as server:
        with pytest.raises(dns.exception.DNSException) as caught:
            await resolver_for(server, 0.3).resolve("example.org", "MX")
        assert not isinstance(caught.value, dns.resolver.NXDOMAIN | dns.resolver.NoAnswer)
        assert server.faults["example.org"].seen >= 1


async def test_nxdomain_fault_and_times():
    async with MiniDns(ZONES, {"example.org/MX": Fault("nxdomain", times=1)}) as server:
        resolver = resolver_for(server)
        with pytest.raises(dns.resolver.NXDOMAIN):
            await resolver.resolve("example.org", "MX")
        assert await resolver.resolve("example.org", "MX")


@pytest.mark.parametrize("kind", ["wrong-id", "wrong-question"])
async def test_forged_answers_precede_the_right_one(kind):
    async with MiniDns(ZONES, {"mx1.example.org": Fault(kind)}) as server:
        answer = await resolver_for(server).resolve("mx1.example.org", "A")
        assert [r.address for r in answer] == ["192.0.2.1"]


async def test_zones_change_and_the_port_survives_a_restart():
    async with MiniDns() as server:
        port = server.port
        server.zones["new.example"] = {"A": ["192.0.2.5"]}
        assert await resolver_for(server).resolve("new.example", "A")
        await server.aclose()
        await server.start()
        assert server.port == port
        assert await resolver_for(server).resolve("new.example", "A")


def test_in_a_thread():
    with dns_in_thread(ZONES) as server:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [server.host]
        resolver.port = server.port
        assert [r.address for r in resolver.resolve("mx1.example.org", "AAAA")] == ["2001:db8::1"]
