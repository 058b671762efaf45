"""What one client, or many, can make the whole relay do is bounded: connections, memory, time, errors."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.certificates import client_context
from tests.support.raw_smtp import HANG, RawClient
from tests.support.whole import Whole, secure, whole

MIB = 1 << 20


@pytest.fixture(name="bounded", scope="module")
def _bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """A relay that nobody else uses, so that its memory can be watched. Repeated recipients have no limit there."""
    with whole(tmp_path_factory.mktemp("bounded"), submission={"max_recipients": 1_000_000_000}) as running:
        yield running
        assert "Traceback" not in running.log, running.log


SILENCE = {
    "nothing": [],
    "half a command": [b"EH"],
    "a hello": [b"EHLO c.test\r\n"],
    "an open transaction": [b"EHLO c.test\r\n", b"MAIL FROM:<a@ext.test>\r\n"],
    "half a chunk": [
        b"EHLO c.test\r\n",
        b"MAIL FROM:<a@ext.test>\r\n",
        b"RCPT TO:<b@rcpt.test>\r\n",
        b"BDAT 9999\r\nFrom:",
    ],
    "data": [b"EHLO c.test\r\n", b"MAIL FROM:<a@ext.test>\r\n", b"RCPT TO:<b@rcpt.test>\r\n", b"DATA\r\n"],
}


@pytest.fixture(name="impatient", scope="module")
def _impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    limits = {"free_disk": "1MiB", "idle_timeout": "1s", "session_timeout": "4s"}
    with whole(tmp_path_factory.mktemp("impatient"), limits=limits) as running:
        yield running


@pytest.mark.parametrize("said", SILENCE.values(), ids=SILENCE)
async def test_a_silent_client_is_sent_away(impatient: Whole, said: list[bytes]):
    async with impatient.client("open") as client:
        for octets in said:
            if octets.endswith(b"\n"):
                assert (await client.say(octets))[:1] in "23"
            else:
                client.send(octets)
        assert (await client.rest()).startswith("421 4.4.2 ")


@pytest.mark.parametrize("said", [["AUTH PLAIN"], ["AUTH LOGIN"], ["AUTH LOGIN", "YXBw"]], ids=repr)
async def test_a_client_that_falls_silent_in_a_login_is_sent_away(impatient: Whole, said: list[str]):
    async with impatient.client("submit", stranger=True) as client:
        await secure(client)
        assert await client.code("EHLO c.test") == 250
        for line in said:
            assert await client.code(line) == 334
        assert (await client.rest()).startswith("421 4.4.2 ")


@pytest.mark.parametrize("where", ["a command", "a login"])
async def test_dripping_octets_of_a_command_are_no_activity(impatient: Whole, where: str):
    async with impatient.client("submit", stranger=True) as client:
        await secure(client)
        assert await client.code("EHLO c.test") == 250
        if where == "a login":
            assert await client.code("AUTH PLAIN") == 334
        closed = asyncio.ensure_future(client.rest())
        for _ in range(100):
            if closed.done():
                break
            with contextlib.suppress(ConnectionError):
                client.send(b"x")
            await asyncio.sleep(0.1)
        assert (await closed).startswith("421 4.4.2 ")


async def test_a_session_that_never_ends(impatient: Whole):
    """Each command is in time; all together are not."""
    async with impatient.client("open") as client:
        reply = await client.say("EHLO c.test")
        async with asyncio.timeout(HANG):
            while reply.startswith("2"):
                await asyncio.sleep(0.2)
                reply = await client.say("VRFY x")
        assert reply.startswith("421 4.4.2 ")


async def test_a_handshake_that_never_comes(impatient: Whole):
    """Idle in the middle of STARTTLS: the connection counts and ends with the handshake's own time; others go on."""
    async with impatient.client("submit", stranger=True) as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("STARTTLS") == 220
        async with impatient.user("submit") as other:
            assert await other.code("NOOP") == 250


async def flood(client: RawClient, line: bytes, most: int) -> str:
    """Send the same line again and again, reading replies; the last reply before the end."""
    reply = ""
    for _ in range(most):
        try:
            reply = await client.say(line) or reply
        except ConnectionError:
            break
        if reply.startswith("421"):
            break
    return reply


@pytest.mark.parametrize(
    ("line", "most"),
    [
        (b"FOO\r\n", 6),
        (b"NOOP\r\n", 102),
        (b"RSET\r\n", 102),
        (b"EHLO x\r\n", 102),
        (b"VRFY x\r\n", 102),
        (b"RCPT TO:<nobody\r\n", 11),
        (b"RCPT TO:<b@rcpt.test>\r\n", 11),
        (b"MAIL FROM:<x\0@y.test>\r\n", 11),
        (b"AUTH PLAIN x\r\n", 11),
        (b"BDAT 1\r\nx", 11),
        (b"STARTTLS x\r\n", 11),
    ],
    ids=repr,
)
async def test_what_leads_nowhere_ends_the_session(bounded: Whole, line: bytes, most: int):
    async with bounded.client("open", stranger=True) as client:
        assert await client.code("EHLO c.test") == 250
        assert (await flood(client, line, most)).startswith("421 4.7.0 ")


async def test_empty_chunks_lead_nowhere(bounded: Whole):
    async with bounded.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        assert await client.code("RCPT TO:<b@rcpt.test>") == 250
        assert (await flood(client, b"BDAT 0\r\n", 102)).startswith("421 4.7.0 ")


async def test_five_thousand_recipients(relay: Whole):
    token = relay.token()
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        client.send(b"".join(f"RCPT TO:<{token}@d{n}.rcpt.test>\r\n".encode() for n in range(5000)))
        codes = [(await client.reply())[:9] for _ in range(5000)]
        assert codes == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 4000
        assert await client.code("RSET") == 250


async def test_whoever_goes_on_behind_the_limit_of_recipients_is_sent_away(relay: Whole):
    token = relay.token()
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        client.send(b"".join(f"RCPT TO:<{token}@d{n}.rcpt.test>\r\n".encode() for n in range(6000)))
        codes = [line[:9] for line in (await client.rest()).splitlines()]
    assert codes == ["250 2.1.5"] * 1000 + ["452 4.5.3"] * 4010 + ["421 4.7.0"]


async def grown(relay: Whole, before: int) -> int:
    """By how much the worker's memory has grown, after a moment in which it may shrink."""
    await asyncio.sleep(0.1)
    return relay.rss() - before


async def test_an_endless_command_line(bounded: Whole):
    async def endless(size: int) -> str:
        async with bounded.client("open", stranger=True) as client:
            assert await client.code("EHLO c.test") == 250
            for _ in range(size // 65536):
                client.send(b"x" * 65536)
                await client.writer.drain()
            return await client.say(b"\r\n")

    assert (await endless(MIB)).startswith("500 5.5.2 ")
    before = bounded.rss()
    assert (await endless(8 * MIB)).startswith("500 5.5.2 ")
    assert await grown(bounded, before) < 2 * MIB


@pytest.mark.parametrize("block", [b"x" * 65536, (b"y" * 998 + b"\r\n") * 65], ids=["line", "message"])
async def test_endless_data(bounded: Whole, block: bytes):
    async def endless(size: int) -> str:
        async with bounded.client("open") as client:
            assert await client.code("EHLO c.test") == 250
            assert await client.code("MAIL FROM:<a@ext.test>") == 250
            assert await client.code("RCPT TO:<b@rcpt.test>") == 250
            assert await client.code("DATA") == 354
            client.send(b"From: <a@ext.test>\r\n\r\n")
            for _ in range(size // len(block)):
                client.send(block)
                await client.writer.drain()
            return await client.say(b"\r\n.\r\n")

    await endless(MIB)
    before = bounded.rss()
    assert (await endless(64 * MIB)).startswith("552 5.3.4 ")
    assert await grown(bounded, before) < 2 * MIB


@pytest.mark.parametrize("size", [49 * MIB, 64 * MIB], ids=["a line", "too much"])
async def test_an_endless_chunk(bounded: Whole, size: int):
    """What is announced is read to its end and not kept, whether its size or its endless header condemns it."""

    async def endless(size: int) -> str:
        async with bounded.client("open") as client:
            assert await client.code("EHLO c.test") == 250
            assert await client.code("MAIL FROM:<a@ext.test>") == 250
            assert await client.code("RCPT TO:<b@rcpt.test>") == 250
            client.send(b"BDAT %d LAST\r\n" % size)
            for _ in range(size // 65536):
                client.send(b"x" * 65536)
                await client.writer.drain()
            reply = await client.reply()
            assert await client.code("NOOP") == 250
            return reply

    await endless(MIB)
    before = bounded.rss()
    assert (await endless(size)).startswith("552 5.3.4 ")
    assert await grown(bounded, before) < 2 * MIB


def opened(port: int, *, tls: bool) -> socket.socket:
    """A connection that has sent MAIL and reads no more."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.recv(200)
    if tls:
        for line in (b"EHLO c.test\r\n", b"STARTTLS\r\n"):
            sock.sendall(line)
            sock.recv(2000)
        sock = client_context().wrap_socket(sock, server_hostname="mx.test")
    sock.sendall(b"EHLO c.test\r\nMAIL FROM:<a@ext.test>\r\n")
    sock.settimeout(1.0)
    return sock


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_a_client_that_pipelines_and_never_reads(bounded: Whole, tls: bool):
    """A recipient that is named again is accepted again, so this could go on for ever."""

    def push(most: int) -> tuple[int, int]:
        """Octets sent, and the worker's memory while the client is still there."""
        line = b"RCPT TO:<somebody@rcpt.test>\r\n" * 1000
        sent = 0
        with opened(bounded.ports["open"], tls=tls) as sock:
            with contextlib.suppress(TimeoutError):
                while sent < most:
                    sent += sock.send(line)
            return sent, bounded.rss()

    # What lies in the kernel's buffers is answered when the client has gone; so much is the least it costs.
    for _ in range(2):
        await asyncio.to_thread(push, 256 * MIB)
    before = bounded.rss()
    for _ in range(3):
        sent, meanwhile = await asyncio.to_thread(push, 256 * MIB)
        assert sent < 64 * MIB, "it stops reading"
        assert meanwhile - before < 4 * MIB
    assert await grown(bounded, before) < 4 * MIB
    async with bounded.client("open") as client:
        assert await client.code("NOOP") == 250


async def submit(relay: Whole, content: bytes) -> str:
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        assert await client.code(f"RCPT TO:<{relay.token()}@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        return await client.say(content + b"\r\n.\r\n")


HEAD = b"From: <a@ext.test>\r\n"
NESTED = b"".join(b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (n, n) for n in range(500))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (HEAD + b"X: " + b"y" * 900 + b"\r\n\r\nx", 250),
        (HEAD + b"".join(b"X%d: %b\r\n" % (n, b"y" * 900) for n in range(220)) + b"\r\nx", 250),
        (HEAD + b"".join(b"X%d: %b\r\n" % (n, b"y" * 900) for n in range(400)) + b"\r\nx", 552),
        (HEAD + b"".join(b"X: y\r\n" for _ in range(20_000)) + b"\r\nx", 554),
        (HEAD + b"X: y\r\n" * 999 + b"\r\nx", 250),
        (HEAD + b"X: y\r\n" * 1000 + b"\r\nx", 554),
        (HEAD + b"XYZ:" + b"\r\n y" * ((262_144 - 28) // 4) + b"\r\n\r\nx", 250),
        (HEAD + b"XYZ:" + b"\r\n y" * ((262_144 - 28) // 4) + b"y\r\n\r\nx", 552),
        (HEAD + b"X: a\r\n" + b" folded\r\n" * 20_000 + b"\r\nx", 250),
        (HEAD + b"X: a\r\n" + b" \r\n" * 20_000 + b"\r\nx", 250),
        (b"From: " + b"(" * 900 + b"\r\n " + b")" * 900 + b" <a@ext.test>\r\n\r\nx", 554),
        (b"From: " + b"\r\n ".join([b'"' * 900] * 200) + b"\r\n\r\nx", 554),
        (HEAD + NESTED + b"x", 250),
        (HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 20_000, 250),
        (HEAD + b"Received: from x by y; now\r\n" * 25 + b"\r\nx", 250),
        (HEAD + b"Received: from x by y; now\r\n" * 50 + b"\r\nx", 250),
        (HEAD + b"Received: from x by y; now\r\n" * 51 + b"\r\nx", 554),
        (HEAD + b"Received: from x by y; now\r\n" * 120 + b"\r\nx", 554),
    ],
    ids=lambda value: repr(value[20:60]) if isinstance(value, bytes) else str(value),
)
async def test_shapes_of_messages(bounded: Whole, content: bytes, code: int):
    began = time.monotonic()
    reply = await submit(bounded, content)
    assert int(reply[:3]) == code, reply
    if b"Received" in content and code == 554:
        assert reply.startswith("554 5.4.6 ")
    assert time.monotonic() - began < HANG / 2


async def test_a_flood_of_handshakes_keeps_others_from_nothing(bounded: Whole):
    stop = threading.Event()
    made = []

    def handshakes(source: str) -> None:
        while not stop.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", bounded.ports["implicit"]), source_address=(source, 0)) as sock,
                client_context().wrap_socket(sock, server_hostname="mx.test"),
            ):
                made.append(source)

    flood = [asyncio.to_thread(handshakes, f"127.0.4.{n}") for n in range(1, 5)]
    flooding = asyncio.gather(*flood)
    try:
        for _ in range(10):
            began = time.monotonic()
            async with bounded.client("open") as client:
                assert await client.code("NOOP") == 250
            assert time.monotonic() - began < 5
            await asyncio.sleep(0.05)
    finally:
        stop.set()
        await flooding
    assert len(made) > 20
