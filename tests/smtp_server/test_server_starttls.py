"""STARTTLS and implicit TLS: nothing said in plaintext survives, nothing plaintext is answered after 220."""

import asyncio
import contextlib
import os
import socket
import ssl

import pytest

from relay.smtp.server.session import Phase
from tests.support.certificates import client_context, server_context
from tests.support.raw_smtp import HANG, listening


async def test_a_message_through_starttls():
    async with listening(tls=server_context(), auth="optional") as server:
        client = await server.connect()
        before = await client.say("EHLO c.test")
        assert "250-STARTTLS" in before
        assert "AUTH" not in before
        assert (await client.say("STARTTLS")).startswith("220 2.0.0 ")
        await client.starttls(client_context())
        after = await client.say("EHLO c.test")
        assert "STARTTLS" not in after
        assert "250-AUTH PLAIN LOGIN" in after
        await client.envelope()
        assert await client.code(b"A: b\r\n\r\n" + b"x" * 900 + b"\r\n.\r\n") == 250
        assert await client.code("STARTTLS") == 503
        assert await client.code("QUIT") == 221
        (message,) = server.handler.messages
        assert message.peer.tls.startswith("TLSv1.")
        assert " " in message.peer.tls


async def test_the_state_is_reset():
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        for line in ("EHLO c.test", "MAIL FROM:<s@ext.test>", "RCPT TO:<a@local.test>"):
            assert await client.code(line) == 250
        assert await client.code("STARTTLS") == 220
        await client.starttls(client_context())
        assert await client.code("MAIL FROM:<s@ext.test>") == 503
        assert await client.code("EHLO c.test") == 250
        assert await client.code("RCPT TO:<a@local.test>") == 503


@pytest.mark.parametrize("hello", ["EHLO c.test", "HELO c.test"])
async def test_a_login_does_not_outlive_the_handshake(hello: str):
    """RFC 3207 §4.2: who somebody claimed to be in plaintext, and all that was said, is forgotten."""
    async with listening(tls=server_context(), auth="optional", plaintext_auth=True) as server:
        client = await server.connect()
        assert await client.code("EHLO before.test") == 250
        assert await client.code("AUTH PLAIN AHVzZXIAcGFzcw==") == 235
        (peer,) = server.handler.opened
        assert peer.identity is not None
        assert await client.code("STARTTLS") == 220
        await client.starttls(client_context())
        assert await client.code("MAIL FROM:<s@ext.test>") == 503, "the hello is forgotten"
        assert peer.identity is None
        assert (peer.helo, peer.extended) == ("", False)
        assert await client.code(hello) == 250
        assert await client.code("MAIL FROM:s@ext.test") == 501, "strangers need brackets"
        assert await client.code("MAIL FROM:<s@ext.test>") == 250
        assert await client.code("RCPT TO:<a@local.test>") == 250
        assert await client.code("DATA") == 354
        assert await client.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250
        (message,) = server.handler.messages
        assert message.peer.identity is None
        assert await client.code("EHLO c.test") == 250
        assert await client.code("AUTH PLAIN AHVzZXIAcGFzcw==") == 235, "not 503: nobody is logged in any more"
        assert peer.identity is not None
        assert server.handler.logins == [("user", "pass")] * 2


@pytest.mark.parametrize("injected", [b"RSET\r\nNOOP\r\n", b"N", b"\r\n", b"\0"])
async def test_nothing_may_follow_starttls(injected):
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        client.send(b"STARTTLS\r\n" + injected)
        assert (await client.rest()).startswith("554 5.5.0 ")


async def test_nothing_may_follow_starttls_in_a_packet_of_its_own():
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        (protocol,) = server.server.context.connections.open
        protocol.data_received(b"STARTTLS\r\n")
        protocol.data_received(b"EHLO evil.test\r\n")
        assert (await client.rest()).startswith("554 5.5.0 ")


async def test_plaintext_that_comes_before_the_handshake_ends_the_session():
    """However it got past the stop of reading."""
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        (protocol,) = server.server.context.connections.open
        protocol.data_received(b"STARTTLS\r\n")
        await asyncio.sleep(0)
        assert protocol._state.phase is Phase.TLS
        protocol.data_received(b"EHLO evil.test\r\n")
        assert (await client.reply()).startswith("220 ")
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await client.starttls(client_context())


async def test_nothing_is_read_between_220_and_the_handshake():
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        (protocol,) = server.server.context.connections.open
        protocol.data_received(b"STARTTLS\r\n")
        await asyncio.sleep(0)
        assert not protocol._wire.is_reading()
        assert (await client.reply()).startswith("220 ")
        await client.starttls(client_context())
        assert await client.code("NOOP") == 250


async def test_what_is_injected_after_220_goes_to_the_handshake():
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        assert await client.code("STARTTLS") == 220
        client.send(b"MAIL FROM:<a@b.test>\r\n")
        rest = await asyncio.wait_for(client.reader.read(), HANG)
        # A TLS alert at most; no reply.
        assert not rest or rest[0] == 0x15
        assert b"250" not in rest


@pytest.mark.parametrize("line", ["STARTTLS now", "STARTTLS \t"])
async def test_starttls_takes_no_argument(line):
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        assert await client.code(line) in {500, 501}
        assert await client.code("NOOP") == 250


async def test_without_a_certificate_it_is_not_offered():
    async with listening() as server:
        client = await server.connect()
        assert "STARTTLS" not in await client.say("EHLO c.test")
        assert await client.code("STARTTLS") == 502


async def test_a_handshake_that_never_comes_ends():
    async with listening(tls=server_context(), handshake_timeout=0.1) as server:
        client = await server.connect()
        assert await client.code("STARTTLS") == 220
        assert await asyncio.wait_for(client.reader.read(), HANG) == b""


async def test_a_client_that_leaves_during_the_handshake_is_forgotten():
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        assert await client.code("STARTTLS") == 220
        await client.close()
        for _ in range(100):
            if server.handler.closed:
                break
            await asyncio.sleep(0.02)
        assert len(server.handler.closed) == 1


async def test_implicit_tls():
    async with listening(tls=server_context(), mode="implicit", auth="required") as server:
        client = await server.connect(ssl=client_context(), server_hostname="mx.test")
        reply = await client.say("EHLO c.test")
        assert "STARTTLS" not in reply
        assert "AUTH PLAIN LOGIN" in reply
        assert await client.code("STARTTLS") == 503
        assert await client.code("AUTH PLAIN AHVzZXIAcGFzcw==") == 235
        await client.envelope()
        assert await client.code(b"A: b\r\n\r\nx\r\n.\r\n") == 250
        assert server.handler.messages[0].peer.tls
        assert await client.code("QUIT") == 221


async def test_plaintext_to_implicit_tls_gets_no_reply():
    async with listening(tls=server_context(), mode="implicit") as server:
        client = await server.connect(greeting=False)
        client.send(b"EHLO c.test\r\n")
        rest = await asyncio.wait_for(client.reader.read(), HANG)
        assert not rest or rest[0] == 0x15


async def test_tls_that_ends_within_data_queues_nothing():
    """Plaintext behind a close_notify is nobody's command (CVE-2026-45185)."""
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        assert await client.code("STARTTLS") == 220
        await client.starttls(client_context())
        await client.envelope()
        client.send(b"A: b\r\n\r\nx\r\n")
        await client.writer.drain()
        raw = socket.socket(fileno=os.dup(client.writer.get_extra_info("socket").fileno()))
        client.writer.close()
        with contextlib.suppress(OSError):
            raw.send(b".\r\nMAIL FROM:<a@b.test>\r\n")
        raw.close()
        for _ in range(100):
            if server.handler.closed:
                break
            await asyncio.sleep(0.02)
        assert len(server.handler.closed) == 1
        assert not server.handler.messages


async def test_mail_before_tls_where_auth_is_required():
    async with listening(tls=server_context(), auth="required") as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        assert (await client.say("MAIL FROM:<a@b.test>")).startswith("530 5.7.0 Must issue a STARTTLS")
        assert (await client.say("AUTH PLAIN AHVzZXIAcGFzcw==")).startswith("538 5.7.11 ")
        assert not server.handler.logins


async def test_a_large_message_through_tls():
    async with listening(tls=server_context()) as server:
        client = await server.connect()
        assert await client.code("STARTTLS") == 220
        await client.starttls(client_context())
        await client.envelope()
        body = (b"z" * 76 + b"\r\n") * 20_000
        client.send(b"A: b\r\n\r\n" + body)
        await client.writer.drain()
        assert await client.code(b".\r\n") == 250
        assert server.handler.messages[0].octets == b"A: b\r\n\r\n" + body
