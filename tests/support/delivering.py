"""One worker's delivery on a queue, with real DNS and a scripted receiver, in one process."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from relay.delivery.routing import Router
from relay.delivery.service import DeliveryService
from relay.message.dkim.sign import KeyRing
from relay.message.dsn import DsnFactory
from relay_config.schema import Delivery as DeliverySettings
from relay_config.schema import Dns, Retry, Settings, Throttle
from relay_config.words import Duration, Rate
from relay_queue.model import LOCAL_NODE, Owner, Put, Selection
from tests.support.dns import MiniDns
from tests.support.queues import Pair, a_put
from tests.support.receiver import Receiver
from tests.support.remembering_recorder import RememberingRecorder

BODY = b"From: a@sender.test\r\nSubject: x\r\n\r\nhello\r\n"


class Bench:
    """A delivery with what it needs; `accept` does what submission does."""

    def __init__(self, pair: Pair, dns: MiniDns, port: int) -> None:
        self.pair = pair
        self.recorder = RememberingRecorder()
        self.settings = Settings(
            hostname="relay.test",
            dns=Dns(nameservers=(dns.address,), timeout=Duration(2)),
            delivery=DeliverySettings(port=port, prohibited_networks=(), ipv6=False, command_timeout=Duration(5)),
            retry=Retry(schedule=(Duration(60),), jitter=0.0),
            throttle=Throttle(max_connections=1, rate=Rate(0, 1), connection_rate=Rate(0, 1), backoff=Duration(60)),
        )
        self.router = Router(self.settings)
        self.delivery = self.make()

    def make(self, number: int = 0, **options) -> DeliveryService:
        """Another worker on the same queue."""
        dsn = DsnFactory(self.settings, KeyRing({}))
        return DeliveryService(
            self.settings,
            self.pair.queue,
            self.recorder,
            self.router,
            dsn.build,
            owner=Owner(LOCAL_NODE, number, number + 1),
            **options,
        )

    async def accept(self, *addresses: str, **fields) -> Put:
        """Store a message and offer it."""
        put = a_put(*addresses, body=BODY, received_at=time.time(), **fields)
        self.delivery.admit(put)
        await self.pair.queue.put(put)
        self.delivery.offer(put)
        return put

    def states(self) -> list[str]:
        """Of all live recipients."""
        return [r.state.word for entry in self.pair.admin.select(Selection(), None) for r in entry.recipients]

    async def until(self, condition) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def delivering(pair: Pair, **script) -> AsyncIterator[tuple[Bench, Receiver]]:
    mx = {"MX": [(10, "mx.test")]}
    zones = {"example.test": mx, "other.test": mx, "mx.test": {"A": ["127.0.0.1"]}}
    async with MiniDns(zones) as dns, Receiver(**script) as receiver:
        bench = Bench(pair, dns, receiver.port)
        await bench.delivery.start()
        yield bench, receiver
        await bench.delivery.stop(0.2)
        await bench.router.aclose()
