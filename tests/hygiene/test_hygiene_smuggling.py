"""SMTP smuggling through the whole relay: one message in is one message out, signed as it leaves."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.support.dkim_keys import results
from tests.support.raw_smtp import RawClient
from tests.support.smuggling import SMUGGLED, VARIANTS, one_end
from tests.support.whole import DOMAIN, Whole

WAYS = ["trusted", "starttls", "implicit"]
HEAD = f"From: <app@{DOMAIN}>\r\nSubject: outer\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def sender(relay: Whole, way: str) -> AsyncIterator[RawClient]:
    """A client that may send, plain or through TLS."""
    if way == "trusted":
        async with relay.client("open") as client:
            assert await client.code("EHLO c.test") == 250
            yield client
    else:
        async with relay.user("submit" if way == "starttls" else "implicit") as client:
            yield client


async def begin(client: RawClient, token: str) -> None:
    """Up to 354."""
    assert await client.code(f"MAIL FROM:<app@{DOMAIN}>") == 250
    assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
    assert await client.code("DATA") == 354


async def submit(relay: Whole, way: str, content: bytes) -> tuple[str, str]:
    """(reply, token) of a transaction whose content is `content`, sent as it is; the session goes on well."""
    token = relay.token()
    async with sender(relay, way) as client:
        await begin(client, token)
        reply = await client.say(content)
        assert await client.say("NOOP") == "250 2.0.0 OK", "one message, one reply"
        return reply, token


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("x", VARIANTS, ids=repr)
async def test_one_message_goes_in_and_one_comes_out(relay: Whole, x: bytes, way: str):
    reply, token = await submit(relay, way, HEAD + b"body" + x + SMUGGLED)
    if b"\0" in x:
        assert reply.startswith("554 5.6.11 ")
        return
    assert reply.startswith("250 2.0.0 ")
    message = await relay.took(token)
    assert one_end(message.raw)
    assert results(message.content, *relay.keys) == [True, True]
    assert b"MAIL FROM:<smuggled@evil.test>" in message.content, "it is text within the one message"
    assert message.sender == f"app@{DOMAIN}"
    assert not any(other.sender == "smuggled@evil.test" for other in relay.receiver.messages)
    assert not relay.receiver.problems


@pytest.mark.parametrize("x", [v for v in VARIANTS if b"\0" not in v], ids=repr)
async def test_in_a_header_too(relay: Whole, x: bytes):
    """The variants within a field: refused, or mended and signed as it leaves."""
    token = relay.token()
    async with sender(relay, "starttls") as client:
        await begin(client, token)
        reply = await client.say(HEAD[:-2] + b"X-Note: a" + x + b"X-More: b\r\n\r\nbody\r\n.\r\n")
        assert reply[:3] in {"250", "554", "500"}
        assert await client.say("NOOP") == "250 2.0.0 OK"
    if reply.startswith("250"):
        message = await relay.took(token)
        assert one_end(message.raw)
        assert results(message.content, *relay.keys) == [True, True]


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("way", WAYS)
async def test_the_end_may_come_in_pieces(relay: Whole, way: str, at: int):
    token = relay.token()
    async with sender(relay, way) as client:
        await begin(client, token)
        end = b"\r\n.\r\n"
        client.send(HEAD + b"x" + end[:at])
        await client.writer.drain()
        async with relay.client("open") as other:
            assert await other.code("NOOP") == 250
        assert await client.code(end[at:]) == 250
    assert (await relay.took(token)).content.endswith(b"\r\n\r\nx\r\n")


@pytest.mark.parametrize("n", [510, 512, 990, 997, 998, 1024, 4096, 16384, 65536, 262144])
async def test_a_dot_at_a_boundary_is_no_end(relay: Whole, n: int):
    token = relay.token()
    async with sender(relay, "trusted") as client:
        await begin(client, token)
        client.send(HEAD + b"A" * n + b".\r\n")
        await client.writer.drain()
        reply = await client.say(b"x\r\n.\r\n")
        assert reply.startswith("250" if n < 998 else "500 5.5.2")
        assert await client.say("NOOP") == "250 2.0.0 OK"


async def test_every_line_with_a_dot_is_doubled_on_the_way_out(relay: Whole):
    lines = [b".", b"..", b"...", b".x", b"x.", b". ", b"", b"."]
    reply, token = await submit(
        relay, "trusted", HEAD + b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
    )
    assert reply.startswith("250")
    message = await relay.took(token)
    assert one_end(message.raw)
    assert message.content.split(b"\r\n\r\n", 1)[1] == b"\r\n".join(lines) + b"\r\n"


async def test_commands_behind_an_oversized_message_are_not_run(relay: Whole):
    token = relay.token()
    async with sender(relay, "trusted") as client:
        await begin(client, token)
        block = (b"x" * 998 + b"\r\n") * 1000
        client.send(HEAD)
        for _ in range(53):
            client.send(block)
            await client.writer.drain()
        client.send(b"\n.\r\nHELP\r\n")
        assert (await client.say(b"more\r\n.\r\n")).startswith("552 5.3.4 ")
        assert await client.say("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("way", WAYS)
async def test_content_without_waiting_for_354_ends_the_session(relay: Whole, way: str):
    token = relay.token()
    async with sender(relay, way) as client:
        client.send(
            f"MAIL FROM:<app@{DOMAIN}>\r\nRCPT TO:<{token}@rcpt.test>\r\nDATA\r\n".encode()
            + HEAD
            + b"x\r\n.\r\nHELP\r\nQUIT\r\n"
        )
        assert [line[:9] for line in (await client.rest()).splitlines()] == ["250 2.1.0", "250 2.1.5", "554 5.5.0"]


async def test_a_stranger_never_gets_to_data(relay: Whole):
    async with relay.client("open", stranger=True) as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<s@ext.test>") == 250
        assert (await client.say("RCPT TO:<user@rcpt.test>")).startswith("550 5.7.1 ")
        assert await client.code("DATA") == 503
        client.send(b"BDAT 6 LAST\r\nQUIT\r\n")
        assert (await client.reply()).startswith("503 ")
        assert await client.say("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("extension", ["", " BODY=8BITMIME", " SMTPUTF8 BODY=8BITMIME"])
async def test_eight_bits_leave_as_they_came(relay: Whole, extension: str):
    token = relay.token()
    body = "grüße\r\n".encode() + bytes(range(128, 256)) + b"\r\n"
    async with sender(relay, "starttls") as client:
        assert await client.code(f"MAIL FROM:<app@{DOMAIN}>{extension}") == 250
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        assert await client.code(HEAD + body + b".\r\n") == 250
    message = await relay.took(token)
    assert message.content.split(b"\r\n\r\n", 1)[1] == body
    assert message.params.get("BODY") == "8BITMIME"
    assert results(message.content, *relay.keys) == [True, True]
