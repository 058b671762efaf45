"""How many connections a client, and all together, can have, over listeners, workers and their deaths; a full disk."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.raw_smtp import HANG, RawClient
from tests.support.whole import PASSWORD, USER, Whole, plain, secure, whole


@contextlib.asynccontextmanager
async def own(folder: Path, *, workers: int = 1, **limits: object) -> AsyncIterator[Whole]:
    """A relay with limits of its own, which tests may run against again and again without a pause."""
    manager = whole(folder, workers=workers, limits={"free_disk": "1MiB", "connections_per_minute": 0} | limits)
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        yield relay
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


async def connect(relay: Whole, source: str) -> tuple[RawClient, str]:
    """Connect from an address; the greeting or the refusal."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.ports["open"], local_addr=(source, 0))
    client = RawClient(reader, writer)
    return client, await client.reply()


async def test_one_address_too_many_times(tmp_path: Path):
    async with own(tmp_path, connections=100, connections_per_address=10) as relay:
        clients = [await connect(relay, "127.0.0.90") for _ in range(12)]
        assert [reply[:9] for _, reply in clients[:10]] == ["220 relay"] * 10
        assert [reply[:9] for _, reply in clients[10:]] == ["421 4.3.2"] * 2
        other, reply = await connect(relay, "127.0.0.91")
        assert reply.startswith("220 ")
        await clients[0][0].close()
        async with asyncio.timeout(HANG):
            while True:
                again, reply = await connect(relay, "127.0.0.90")
                await again.close()
                if reply.startswith("220 "):
                    break
        for client, _ in clients:
            await client.close()
        await other.close()


async def fill(relay: Whole, source: str, attempts: int) -> list[RawClient]:
    """Those of so many connections that were let in; each of the others got its 421 soon."""
    let_in = []
    for _ in range(attempts):
        began = time.monotonic()
        client, reply = await connect(relay, source)
        if reply.startswith("220 "):
            let_in.append(client)
        else:
            assert reply.startswith("421 4.3.2 ")
            assert time.monotonic() - began < 2
            await client.close()
    return let_in


async def filled_up(relay, address: str, clients: list) -> list:
    """Until there are ten, as many as may be."""
    async with asyncio.timeout(HANG):
        while len(clients) < 10:
            clients += await fill(relay, address, 1)
    assert await fill(relay, address, 20) == []
    return clients


async def still_open(clients: list[RawClient]) -> list[RawClient]:
    """Those that are still served; the others are closed."""
    answers = await asyncio.gather(*(client.code("NOOP") for client in clients), return_exceptions=True)
    served = [client for client, answer in zip(clients, answers, strict=True) if answer == 250]
    for client in clients:
        if client not in served:
            await client.close()
    return served


async def test_an_address_has_one_cap_over_all_workers(tmp_path: Path):
    async with own(tmp_path, workers=2, connections=100, connections_per_address=10) as relay:
        clients = await fill(relay, "127.0.0.92", 30)
        assert len(clients) == 10
        other, reply = await connect(relay, "127.0.0.93")
        assert reply.startswith("220 ")
        await other.close()
        for client in clients[:4]:
            assert await client.code("QUIT") == 221
            await client.close()
        clients = await filled_up(relay, "127.0.0.92", clients[4:])
        for client in clients:
            await client.close()


async def test_the_connections_of_a_killed_worker_are_not_counted_any_more(tmp_path: Path):
    """Each worker in turn, so that at least one of them had some."""
    async with own(tmp_path, workers=2, connections=100, connections_per_address=10) as relay:
        clients = await fill(relay, "127.0.0.94", 20)
        for pid in relay.workers():
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(HANG):
                while pid in relay.workers() or len(relay.workers()) < 2:
                    await asyncio.sleep(0.02)
            await relay.greeted()
            clients = await filled_up(relay, "127.0.0.94", await still_open(clients))
        for client in clients:
            await client.close()


async def test_handshakes_that_do_not_come_count_at_all_listeners_and_workers(tmp_path: Path):
    source = ("127.0.0.95", 0)
    async with own(tmp_path, workers=2, connections=100, connections_per_address=10) as relay:
        port = relay.ports["implicit"]
        silent = [await asyncio.open_connection("127.0.0.1", port, local_addr=source) for _ in range(15)]
        ends = [asyncio.ensure_future(reader.read(1)) for reader, _ in silent]
        async with asyncio.timeout(HANG):
            while sum(end.done() for end in ends) < 5:
                await asyncio.sleep(0.02)
        client, reply = await connect(relay, source[0])
        assert reply.startswith("421 4.3.2 "), "the same client at another listener"
        await client.close()
        async with relay.user("implicit") as other:
            assert await other.code("NOOP") == 250
        assert sum(end.done() for end in ends) == 5
        for _, writer in silent:
            writer.close()
        await asyncio.gather(*ends, return_exceptions=True)


async def test_too_many_connections_in_all(tmp_path: Path):
    limits = {"connections": 40, "reserved_connections": 0, "connections_per_address": 10, "idle_timeout": "30s"}
    async with own(tmp_path, **limits) as relay:
        clients = [await connect(relay, f"127.0.0.{90 + n % 10}") for n in range(45)]
        assert [reply[:3] for _, reply in clients] == ["220"] * 40 + ["421"] * 5
        # Those who are in are served.
        assert await clients[0][0].code("NOOP") == 250
        for client, _ in clients:
            await client.close()


@pytest.mark.parametrize("listener", ["open", "submit", "implicit"])
async def test_strangers_leave_places_for_those_who_are_known(tmp_path: Path, listener: str):
    """The trusted, and whoever logged in lately; by default one place in ten."""
    async with own(tmp_path, connections=40, connections_per_address=40) as relay:

        async def come(source: str) -> RawClient | None:
            with contextlib.suppress(OSError):
                client = await relay.dial(listener, source=source, greeting=False)
                if (await client.reply()).startswith("220 "):
                    return client
                await client.close()
            return None

        async with relay.client("submit", source="127.0.0.99") as client:
            await secure(client)
            assert await client.code("EHLO c.test") == 250
            assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 235
            assert await client.code("QUIT") == 221
        strangers = [await come(f"127.0.0.{90 + n % 3}") for n in range(45)]
        let_in = [client for client in strangers if client is not None]
        assert len(let_in) == 36
        assert strangers[36:] == [None] * 9
        known = [await come(source) for source in ("127.0.0.99", "127.0.0.1") * 3]
        assert [client is not None for client in known] == [True] * 4 + [False] * 2
        await let_in[0].close()
        async with asyncio.timeout(HANG):
            while (again := await come("127.0.0.99")) is None:
                await asyncio.sleep(0.02)
        assert await come("127.0.0.90") is None
        for client in [*let_in[1:], *known, again]:
            if client is not None:
                await client.close()


async def test_a_login_at_one_worker_is_known_to_the_others(tmp_path: Path):
    async with own(tmp_path, workers=2, connections=20, connections_per_address=40) as relay:
        async with relay.client("submit", source="127.0.0.99") as client:
            await secure(client)
            assert await client.code("EHLO c.test") == 250
            assert await client.code(f"AUTH PLAIN {plain(USER, PASSWORD)}") == 235
        clients = await fill(relay, "127.0.0.90", 80)
        assert 0 < len(clients) <= 36
        known = await fill(relay, "127.0.0.99", 40)
        assert len(known) >= 4
        for one in clients + known:
            await one.close()


@pytest.mark.slow
async def test_two_thousand_idle_connections(tmp_path: Path):
    """Each takes little, and they keep nobody else from being served."""
    count = int(os.environ.get("IDLE_CONNECTIONS", "2000"))
    async with own(tmp_path, connections=count + 500, connections_per_address=count + 500) as relay:
        before = relay.rss()
        writers = []
        for start in range(0, count, 200):
            opened = await asyncio.gather(
                *(
                    asyncio.open_connection(
                        "127.0.0.1", relay.ports["open"], local_addr=(f"127.0.3.{(start + n) % 200 + 1}", 0)
                    )
                    for n in range(min(200, count - start))
                )
            )
            for reader, writer in opened:
                assert (await asyncio.wait_for(reader.readline(), HANG)).startswith(b"220 ")
                writers.append(writer)
        each = (relay.rss() - before) / count
        async with relay.user() as client:
            assert await client.code("NOOP") == 250
        for writer in writers:
            writer.close()
        print(f"{count} idle connections: {each:.0f} octets each")  # noqa: T201 - for docs/security.md
        assert each < 16 * 1024


async def test_a_disk_nearly_full(tmp_path: Path):
    """Told at MAIL, before anything is stored."""
    async with own(tmp_path, free_disk="1000000GiB") as relay:
        async with relay.client("open") as client:
            assert await client.code("EHLO c.test") == 250
            assert (await client.say("MAIL FROM:<a@ext.test>")).startswith("452 4.3.1 ")
            assert await client.code("RCPT TO:<b@rcpt.test>") == 503
        async with relay.user() as client:
            assert (await client.say("MAIL FROM:<app@sender.test>")).startswith("452 4.3.1 ")


@pytest.mark.parametrize("listener", ["open", "implicit"])
async def test_an_address_comes_so_often_in_a_minute_over_all_workers(tmp_path: Path, listener: str):
    """Behind it on an implicit listener there is no handshake: that is what costs."""
    async with own(tmp_path, workers=2, connections_per_minute=20) as relay:

        async def come(source: str) -> str:
            try:
                client = await relay.dial(listener, source=source, greeting=False)
            except OSError:
                return "closed"
            reply = await client.reply()
            await client.close()
            return reply[:9]

        assert [await come("127.0.0.92") for _ in range(20)] == ["220 relay"] * 20
        refused = "closed" if listener == "implicit" else "421 4.7.0"
        assert [await come("127.0.0.92") for _ in range(5)] == [refused] * 5
        assert await come("127.0.0.93") == "220 relay"
        assert [await come("127.0.0.1") for _ in range(30)] == ["220 relay"] * 30, "trusted"
