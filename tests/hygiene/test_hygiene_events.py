"""What strangers can make the log and the event store grow by, and what an administrator still learns of it."""

import asyncio
import base64
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.raw_smtp import HANG
from tests.support.running import until
from tests.support.whole import STRANGER, Whole, secure, whole


@contextlib.asynccontextmanager
async def own(folder: Path, **settings: object) -> AsyncIterator[Whole]:
    """A relay whose events no other test adds to."""
    manager = whole(folder, **settings)
    relay = await asyncio.to_thread(manager.__enter__)
    try:
        yield relay
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


def events(relay: Whole, kind: str) -> list[dict[str, object]]:
    """All events of a kind, as `relay events` shows them."""
    done = relay.run("events", "--kind", kind, "--json", "--limit", "100000")
    return [json.loads(line) for line in done.stdout.splitlines()]


async def flood(relay: Whole, source: str, sessions: int) -> int:
    """Sessions that say the longest words they may, and are refused ten times each; the number of refusals."""
    refusals = 0
    lines = b"EHLO " + b"e" * 2000 + b"\r\n" + 11 * (b"MAIL FROM:<" + b"\\" * 2020 + b">\r\n")
    for _ in range(sessions):
        async with relay.client("submit", source=source) as client:
            client.send(lines)
            replies = (await client.rest()).splitlines()
            refusals += sum(line[:1] in "45" for line in replies)
    return refusals


async def test_a_stranger_does_not_fill_the_disk(tmp_path: Path):
    """400 sessions of 24 kB each, which wrote 100 kB each before there were bounds."""
    log = tmp_path / "relay.log"
    async with own(tmp_path, log={"destination": str(log)}) as relay:
        refusals = sum(await asyncio.gather(*(flood(relay, STRANGER, 100) for _ in range(4))))
        assert refusals > 4000
        async with relay.client("submit", source="127.0.0.67") as other:
            assert await other.code("EHLO other.test") == 250
            assert await other.code("MAIL FROM:<seen@other.test>") == 530
        await relay.stop()
        written = log.stat().st_size + sum(path.stat().st_size for path in (relay.data_dir / "events").iterdir())
        assert written < 500_000
        refused = events(relay, "refused")
        assert [event["command"] for event in refused if event["peer"] == "127.0.0.67"] == [
            "MAIL FROM:<seen@other.test>"
        ]
        recorded = sum(event["peer"] == STRANGER for event in refused)
        assert recorded == 60
        counted = sum(int(str(event["count"])) for event in events(relay, "omitted"))
        assert recorded + counted >= refusals, "the last replies of a session that is closed may not be read"
        assert "and " in log.read_text()


async def test_long_user_names_are_cut(tmp_path: Path):
    async with own(tmp_path) as relay:
        async with relay.client("implicit", source=STRANGER) as client:
            assert await client.code("EHLO c.test") == 250
            secret = base64.b64encode(b"\0" + b"u" * 8000 + b"\0wrong").decode()
            assert await client.code(f"AUTH PLAIN {secret}") == 535
        await relay.stop()
        (event,) = events(relay, "authentication-failed")
        assert event["user"] == "u" * 511 + "…"


async def test_the_store_keeps_its_size(tmp_path: Path):
    """Also while the relay runs, and with what it finds there when it starts."""
    history = {"events_size": "1MiB"}
    limits = {"free_disk": "1MiB", "client_events": 0}
    async with own(tmp_path, history=history, limits=limits) as relay:
        folder = relay.data_dir / "events"
        old = folder / "2020-01-01-0.jsonl"
        old.write_bytes(b"x" * 900_000)
        await asyncio.gather(*(flood(relay, STRANGER, 40) for _ in range(8)))
        await asyncio.sleep(0.3)
        assert not old.exists()
        assert sum(path.stat().st_size for path in folder.iterdir()) < 3 << 19
        assert len(list(folder.iterdir())) > 3


def shake(port: int, source: str, context: ssl.SSLContext | None, first: bytes = b"") -> None:
    with socket.create_connection(("127.0.0.1", port), HANG, source_address=(source, 0)) as sock:
        if context is None:
            sock.sendall(first)
            sock.recv(100)
            return
        with contextlib.suppress(OSError):
            context.wrap_socket(sock, server_hostname="mx.test").close()


async def test_a_failed_handshake_is_a_line_in_the_log(tmp_path: Path):
    """At the default level, and an event: with who it was, where and why."""
    async with own(tmp_path) as relay:
        port = relay.ports["implicit"]
        await asyncio.to_thread(shake, port, "127.0.0.68", ssl.create_default_context())
        await asyncio.to_thread(shake, port, "127.0.0.69", None, b"EHLO c.test\r\n")
        client = await relay.dial("submit", source="127.0.0.70")
        assert await client.code("EHLO old.test") == 250
        assert await client.code("STARTTLS") == 220
        with pytest.raises((OSError, ssl.SSLError)):
            await client.writer.start_tls(ssl.create_default_context(), server_hostname="mx.test")
        await until(lambda: relay.log.count("event=tls-failed") == 3)
        lines = [line for line in relay.log.splitlines() if "event=tls-failed" in line]
        assert 'reason="the client does not trust the certificate\'s issuer (tlsv1 alert unknown ca)"' in lines[0]
        assert f"peer=127.0.0.68 listener=127.0.0.1:{port} " in lines[0]
        assert "versions=TLSv1.3,TLSv1.2" in lines[0]
        assert "may expect plaintext or STARTTLS here" in lines[1]
        assert "helo=old.test" in lines[2]
        await until(lambda: len(events(relay, "tls-failed")) == 3)
        async with relay.client("submit", source="127.0.0.70") as again:
            await secure(again)


async def test_failed_handshakes_are_no_flood(tmp_path: Path):
    async with own(tmp_path) as relay:
        for _ in range(100):
            await asyncio.to_thread(shake, relay.ports["implicit"], STRANGER, None, b"GET / HTTP/1.1\r\n\r\n")
        await relay.stop()
        assert relay.log.count("event=tls-failed") == 60
        (omitted,) = events(relay, "omitted")
        assert (omitted["peer"], omitted["what"], omitted["count"]) == (STRANGER, "tls-failed", 40)
