import random

import pytest

from relay.delivery.routing import Router
from relay_config.schema import Dns, Settings
from relay_config.words import Duration
from tests.support.dns import MiniDns
from tests.support.zones import ZONES, Clock


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
