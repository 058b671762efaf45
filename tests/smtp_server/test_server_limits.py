"""What one client can make the server do is bounded."""

import asyncio
import contextlib
import socket
import ssl

import pytest

from relay.smtp.reply import Reply
from relay.smtp.server.context import is_loopback
from relay_config.schema import Limits
from relay_config.words import Duration
from tests.support.certificates import client_context, server_context
from tests.support.raw_smtp import HANG, RawClient, listening
from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog


async def test_long_command_lines():
    d = Dialog().hello()
    assert d.code("NOOP " + "x" * 2041) == 250
    assert d.code("NOOP " + "x" * 2042) == 500
    assert d.code("NOOP") == 250


async def test_an_endless_command_line_is_refused_once_and_not_kept():
    d = Dialog().hello()
    codes = []
    for _ in range(2048):
        codes += d.codes(b"x" * 4096)
        assert d.engine.waiting <= 4096
    assert codes == [500]
    assert d.codes(b"\r\nNOOP\r\n") == [250]
    for _ in range(5000):
        codes += d.codes(b"x" * 4096)
    assert d.closed


async def test_recipients_beyond_the_limit_are_deferred_not_held_against():
    d = Dialog(max_recipients=100).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    codes = [d.code(f"RCPT TO:<u{n}@local.test>") for n in range(500)]
    assert codes == [250] * 100 + [452] * 400
    assert d.code("DATA") == 354
    assert d.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250
    assert len(d.handler.messages[0].recipients) == 100


async def test_every_refusal_of_a_flood_is_reported():
    """Whoever records them bounds their number, and can say how many there were."""
    d = Dialog(max_recipients=1).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    codes = [d.code(f"RCPT TO:<u{n}@local.test>") for n in range(106)]
    assert codes == [250] + [452] * 105
    assert len(d.handler.refusals) == 105


@pytest.mark.parametrize(("limit", "free"), [(1, 100), (25, 100), (26, 104), (100, 400)])
async def test_whoever_goes_on_behind_the_limit_of_recipients_is_sent_away(limit: int, free: int):
    d = Dialog(max_recipients=limit).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    codes = d.codes(b"".join(b"RCPT TO:<u%d@local.test>\r\n" % n for n in range(limit + free + 20)))
    assert codes == [250] * limit + [452] * (free + 10) + [421]
    assert d.closed


async def test_a_list_pipelined_beyond_the_limit_still_becomes_a_message():
    d = Dialog().hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    codes = d.codes(b"".join(b"RCPT TO:<u%d@local.test>\r\n" % n for n in range(1200)) + b"DATA\r\n")
    assert codes == [250] * 1000 + [452] * 200 + [354]
    assert d.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250
    assert len(d.handler.messages[0].recipients) == 1000


async def test_a_message_clears_the_deferrals_before_it():
    d = Dialog(max_recipients=1).hello()
    for _ in range(5):
        assert d.code("MAIL FROM:<s@ext.test>") == 250
        assert d.codes(b"".join(b"RCPT TO:<u%d@local.test>\r\n" % n for n in range(101))) == [250] + [452] * 100
        assert d.code("DATA") == 354
        assert d.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250


async def test_other_temporary_refusals_count_as_well():
    d = Dialog(RememberingHandler(mail_reply=lambda _: Reply(452, "4.3.1", "disk")), max_recipients=1).hello()
    codes = [d.code("MAIL FROM:<s@ext.test>") for _ in range(111)]
    assert codes == [452] * 110 + [421]


async def test_refused_commands_end_the_session():
    d = Dialog().hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    codes = [d.code("RCPT TO:<nobody>") for _ in range(11)]
    assert codes == [501] * 10 + [421]
    assert d.closed


async def test_unknown_commands_end_the_session_sooner():
    d = Dialog().hello()
    assert [d.code(f"FOO{n}") for n in range(6)] == [500] * 5 + [421]


async def test_commands_that_achieve_nothing_end_the_session():
    d = Dialog().hello()
    codes = d.codes(b"NOOP\r\nRSET\r\n" * 60)
    assert codes[-1] == 421
    assert len(codes) == 100
    d = Dialog()
    for _ in range(3):
        assert d.codes(b"NOOP\r\n" * 60 + b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\n")[-1] == 250
        assert d.code("DATA") == 354
        assert d.code(b"x\r\n.\r\n") == 250


async def test_a_message_clears_the_errors_of_our_own_clients():
    d = Dialog(RememberingHandler(trusted=True)).hello()
    for _ in range(4):
        assert d.codes(b"MAIL FROM:<a@b.test>\r\n" + b"RCPT TO:<x>\r\n" * 9 + b"RCPT TO:<c@d.test>\r\n")[-1] == 250
        assert d.code("DATA") == 354
        assert d.code(b"x\r\n.\r\n") == 250


async def test_far_too_much_data_ends_the_session(monkeypatch):
    from relay.smtp.server import bdat

    monkeypatch.setattr(bdat, "drop_limit", lambda _: 100_000)
    d = Dialog(max_message_size=1000).data()
    codes = []
    for _ in range(30):
        codes += d.codes(b"x" * 10_000)
    assert codes == [421]
    assert d.closed


async def test_connections_in_all():
    async with listening(limits=Limits(connections=2)) as server:
        first = await server.connect()
        await server.connect()
        third = await server.connect(greeting=False)
        assert (await third.rest()).startswith("421 4.3.2 ")
        assert await first.code("QUIT") == 221
        assert await first.rest() == ""
        for _ in range(50):
            if len(server.server.context.connections) < 2:
                break
            await asyncio.sleep(0.01)
        await server.connect()


async def test_connections_by_address():
    async with listening(limits=Limits(connections_per_address=1)) as server:
        await server.connect()
        second = await server.connect(greeting=False)
        assert (await second.rest()).startswith("421 4.3.2 ")
        other = await server.connect(local_addr=("127.0.0.2", 0))
        assert await other.code("NOOP") == 250


async def test_an_idle_client_is_told_and_closed():
    async with listening(limits=Limits(idle_timeout=Duration(0.1))) as server:
        client = await server.connect()
        assert (await client.rest()).startswith("421 4.4.2 ")


async def test_a_trickling_client_is_idle():
    async with listening(limits=Limits(idle_timeout=Duration(0.15))) as server:
        client = await server.connect()
        for _ in range(30):
            client.send(b"x")
            await asyncio.sleep(0.02)
            if client.reader.at_eof() or client.reader._buffer:
                break
        assert (await client.rest()).startswith("421 4.4.2 ")


async def test_a_session_ends_after_its_time():
    async with listening(limits=Limits(session_timeout=Duration(0.2))) as server:
        client = await server.connect()
        replies = ""
        for _ in range(50):
            replies = await client.say("NOOP")
            if not replies.startswith("250"):
                break
            await asyncio.sleep(0.02)
        assert replies.startswith("421 4.4.2 ")


async def test_a_message_that_comes_too_slowly_is_broken_off():
    async with listening(limits=Limits(data_rate=100_000), rate_window=0.1) as server:
        client = await server.connect()
        await client.envelope()
        for _ in range(50):
            client.send(b"x")
            await asyncio.sleep(0.02)
            if client.reader._buffer:
                break
        assert (await client.rest()).startswith("421 4.4.2 ")
        assert not server.handler.messages


async def test_a_slow_honest_message_outlasts_session_and_idle_time():
    limits = Limits(data_rate=100, session_timeout=Duration(0.1), idle_timeout=Duration(0.2))
    async with listening(limits=limits, rate_window=0.1) as server:
        client = await server.connect()
        await client.envelope()
        for _ in range(20):
            client.send(b"x" * 76 + b"\r\n")
            await asyncio.sleep(0.02)
        assert await client.code(b".\r\n") == 250


async def drip(client: RawClient, *pieces: bytes) -> str:
    """Send the pieces in turn, slowly, until the server has had enough; all it said."""
    for n in range(200):
        if client.reader.at_eof() or b"421" in client.reader._buffer:
            break
        client.send(pieces[n % len(pieces)])
        await asyncio.sleep(0.02)
    return await client.rest()


async def test_chunk_after_chunk_the_rate_is_that_of_the_message():
    """One octet ends a chunk and one begins the next: never idle, never long within the same chunk."""
    async with listening(limits=Limits(data_rate=100_000), rate_window=0.2) as server:
        client = await server.connect()
        for line in ("EHLO c.test", "MAIL FROM:<s@ext.test>", "RCPT TO:<user@local.test>"):
            assert await client.code(line) == 250
        assert (await drip(client, b"BDAT 2\r\nx", b"y")).endswith(
            "421 4.4.2 The message is coming in too slowly; closing\r\n"
        )
        assert not server.handler.messages


async def test_a_chunk_that_nobody_wants_does_not_outlast_the_session():
    limits = Limits(data_rate=10, session_timeout=Duration(0.3))
    async with listening(limits=limits, rate_window=0.1) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        client.send(b"BDAT 100000000\r\n")
        assert "The session lasted too long" in await drip(client, b"x" * 100)


async def test_a_refused_message_does_not_outlast_the_session():
    limits = Limits(data_rate=10, session_timeout=Duration(0.3))
    async with listening(limits=limits, rate_window=0.1) as server:
        client = await server.connect()
        await client.envelope()
        client.send(b"a bare\nline feed\r\n")
        assert "The session lasted too long" in await drip(client, b"x" * 98 + b"\r\n")


async def test_a_client_that_takes_no_replies_does_not_keep_its_connection(monkeypatch: pytest.MonkeyPatch):
    """What lies unread is less than would stop the server, and the session is over."""
    monkeypatch.setattr("relay.smtp.server.protocol._TAKE", 0.2)
    async with listening() as server:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", server.port))
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            assert (await loop.sock_recv(sock, 200)).startswith(b"220 ")
            connection = next(iter(server.server.context.connections.open))
            connection._wire.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            await loop.sock_sendall(sock, b"EHLO c.test\r\nMAIL FROM:<s@ext.test>\r\n")
            await loop.sock_sendall(sock, b"RCPT TO:<someone@local.test>\r\n" * 1000)
            while connection._wire.get_write_buffer_size() < 10_000 or connection._engine.waiting:
                await asyncio.sleep(0.01)
            assert not connection._blocked
            await loop.sock_sendall(sock, b"QUIT\r\n")
            async with asyncio.timeout(HANG):
                while len(server.server.context.connections):
                    await asyncio.sleep(0.01)


async def test_a_client_that_reads_nothing_is_not_read_from():
    """10,000 pipelined commands without taking a reply: the server stops, and goes on when the client reads."""
    limits = Limits(idle_timeout=Duration(HANG))
    async with listening(limits=limits, max_recipients=100_000) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        assert await client.code("MAIL FROM:<s@ext.test>") == 250
        client.writer.transport.pause_reading()
        count = 150_000
        line = b"RCPT TO:<someone@local.test>\r\n"
        client.send(line * count)
        connection = next(iter(server.server.context.connections.open))
        for _ in range(500):
            await asyncio.sleep(0.02)
            if connection._blocked:
                break
        assert connection._blocked
        before = connection._octets
        await asyncio.sleep(0.1)
        assert connection._octets == before
        assert before < count * len(line)
        assert connection._engine.waiting < 1 << 19
        client.writer.transport.resume_reading()
        for _ in range(count):
            line = await client.reader.readline()
        assert line[:3] == b"452"
        assert await client.code("NOOP") == 250


@pytest.mark.parametrize("tls", [None, server_context()], ids=["plain", "tls"])
async def test_a_flood_from_outside_is_not_taken_in_at_once(tls: ssl.SSLContext | None):
    """Another thread has filled the kernel's buffers before the server first looks."""

    def push(port: int) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", port))
        if tls is not None:
            sock = client_context().wrap_socket(sock, server_hostname="mx.test")
        sock.recv(200)
        sock.sendall(b"EHLO c.test\r\nMAIL FROM:<s@ext.test>\r\n")
        sock.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while True:
                sock.send(b"RCPT TO:<someone@local.test>\r\n" * 1000)
        return sock

    async with listening(tls=tls, mode="implicit" if tls else None, max_recipients=100_000) as server:
        most = 0
        for _ in range(3):
            # The kernel's buffers grow with use.
            pushing = asyncio.ensure_future(asyncio.to_thread(push, server.port))
            while not pushing.done():
                await asyncio.sleep(0.01)
                for connection in server.server.context.connections.open:
                    if connection._engine is not None:  # None until the handshake is over
                        most = max(most, len(connection._engine._buffer))
            pushing.result().close()
            while len(server.server.context.connections):
                await asyncio.sleep(0.01)
        assert most < 1 << 20


async def test_pipelining_behind_a_pending_verdict_is_bounded():
    async with listening(RememberingHandler(manual=True)) as server:
        client = await server.connect()
        await client.envelope()
        client.send(b"A: b\r\n\r\nx\r\n.\r\n")
        while not server.handler.pending:
            await asyncio.sleep(0.01)
        client.send(b"NOOP\r\n" * 300_000)
        await asyncio.sleep(0.1)
        connection = next(iter(server.server.context.connections.open))
        assert connection._engine.waiting < 1 << 19
        future = server.handler.pending[0]
        future.set_result(future.verdict)
        assert (await client.reply()).startswith("250 2.0.0 Queued")
        # The flood itself ends the session.
        assert "421 4.7.0" in await client.rest()


async def test_one_busy_client_does_not_stop_the_others():
    async with listening() as server:
        busy = await server.connect()
        await busy.code("EHLO c.test")
        await busy.code("MAIL FROM:<s@ext.test>")
        busy.send(b"RCPT TO:<x@local.test>\r\n" * 20_000)
        other = await server.connect()
        assert await other.code("NOOP") == 250
        for _ in range(20_000):
            await busy.reader.readline()


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("x", False),
    ],
)
def test_loopback(address, local):
    assert is_loopback(address) is local
