"""Domains of every kind for the tests' DNS server, and what a router says of them."""

from relay.delivery.routing import Route, RouteError

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


async def learn(router, domain):
    """The error in whole, wherever it shows."""
    route = await router.route(domain)
    return await router.addresses(route) if isinstance(route, Route) else route
