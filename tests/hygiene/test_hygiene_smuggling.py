"""SMTP smuggling through the whole relay: one message in is one message out, signed as it leaves."""

import contextlib
import quopri
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.dkim_keys import results
from tests.support.raw_smtp import RawClient
from tests.support.smuggling import SMUGGLED, VARIANTS, one_end
from tests.support.whole import DOMAIN, Whole, whole

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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [510, 511, 512, 990, 997, 998, 1022, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 262144])
async def test_a_dot_at_a_boundary_is_no_end(relay: Whole, n: int, way: str):
    token = relay.token()
    async with sender(relay, way) as client:
        await begin(client, token)
        client.send(HEAD + b"A" * n + b".\r\n")
        await client.writer.drain()
        reply = await client.say(b"x\r\n.\r\n")
        assert reply.startswith("250 ")
        assert await client.say("NOOP") == "250 2.0.0 OK"
    content = (await relay.took(token)).content
    assert (b"quoted-printable" in content) is (n >= 998)
    assert quopri.decodestring(content).endswith(b"A.\r\nx\r\n")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", [512, 4096, 16384, 65536, 262144])
async def test_a_stuffed_dot_at_a_boundary(relay: Whole, n: int, way: str):
    """Cut after `n` octets in each place of CRLF.. CRLF: unstuffed and no end."""
    async with sender(relay, way) as client:
        for shift in range(6):
            token = relay.token()
            # Lines of 64 octets, the first of another length, up to where the stuffed line begins.
            room = n - shift - len(HEAD)
            text = b"y" * (room % 64) + b"\r\n" + (b"z" * 62 + b"\r\n") * (room // 64)
            octets = HEAD + text[: room - 2] + b"\r\n..\r\nx\r\n"
            assert octets[n - shift :].startswith(b"..\r\n")
            await begin(client, token)
            client.send(octets[:n])
            await client.writer.drain()
            assert await client.code(octets[n:] + b".\r\n") == 250
            message = await relay.took(token)
            assert message.content.endswith(b"\r\n\r\n" + octets[len(HEAD) :].replace(b"\r\n..", b"\r\n."))


async def test_every_line_with_a_dot_is_doubled_on_the_way_out(relay: Whole):
    lines = [b".", b"..", b"...", b".x", b"x.", b". ", b"", b"."]
    reply, token = await submit(
        relay, "trusted", HEAD + b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
    )
    assert reply.startswith("250")
    message = await relay.took(token)
    assert one_end(message.raw)
    assert message.content.split(b"\r\n\r\n", 1)[1] == b"\r\n".join(lines) + b"\r\n"


@pytest.fixture(name="small", scope="module")
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """A relay that takes messages of 64 KiB."""
    submission = {"trusted_networks": ["127.0.0.1/32"], "max_message_size": "64KiB"}
    with whole(tmp_path_factory.mktemp("small"), submission=submission) as running:
        yield running
        assert {message.sender for message in running.receiver.messages} <= {f"app@{DOMAIN}"}
        assert all(message.content.endswith(b"fits\r\n") for message in running.receiver.messages)


LARGE = (b"x" * 998 + b"\r\n") * 66


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("x", [b"\n.\r\nHELP\r\n", *(v + SMUGGLED[: -len(b".\r\n")] for v in VARIANTS)], ids=repr)
async def test_commands_behind_an_oversized_message_are_not_run(small: Whole, x: bytes, way: str):
    """What is dropped is searched for the real end as what is kept."""
    async with sender(small, way) as client:
        await begin(client, small.token())
        client.send(HEAD + LARGE)
        await client.writer.drain()
        assert (await client.say(x + b"more\r\n.\r\n")).startswith("552 5.3.4 ")
        assert await client.say("NOOP") == "250 2.0.0 OK"
        assert await client.code("RCPT TO:<a@rcpt.test>") == 503


@pytest.mark.parametrize("way", WAYS)
async def test_the_largest_message(small: Whole, way: str):
    """64 KiB to the octet, without the stuffed dots; declared or not."""
    size = 64 << 10
    async with sender(small, way) as client:
        assert await client.code(f"MAIL FROM:<app@{DOMAIN}> SIZE={size + 1}") == 552
        for more, code in ((0, 250), (1, 552)):
            rest = size + more - len(HEAD)
            content = HEAD + b"z" * (rest % 64) + (b"\r\n" + b"." * 62) * (rest // 64)
            content = content[:-6] + b"fits\r\n"
            assert len(content) == size + more
            assert await client.code(f"MAIL FROM:<app@{DOMAIN}> SIZE={size}") == 250
            assert await client.code("RCPT TO:<r@rcpt.test>") == 250
            assert await client.code("DATA") == 354
            assert await client.code(content.replace(b"\r\n.", b"\r\n..") + b".\r\n") == code
            assert await client.code(f"MAIL FROM:<app@{DOMAIN}>") == 250
            assert await client.code("RCPT TO:<r@rcpt.test>") == 250
            assert await client.code(b"BDAT %d LAST\r\n" % len(content) + content) == code


@pytest.mark.parametrize("way", WAYS)
async def test_chunks_of_an_oversized_message_are_not_run(small: Whole, way: str):
    async with sender(small, way) as client:
        for last in (b"", b" LAST"):
            assert await client.code(f"MAIL FROM:<app@{DOMAIN}>") == 250
            assert await client.code("RCPT TO:<a@rcpt.test>") == 250
            octets = HEAD + LARGE + b".\r\n" + SMUGGLED
            assert await client.code(b"BDAT %d%b\r\n" % (len(octets), last) + octets) == 552
            assert await client.code(b"BDAT 6 LAST\r\nQUIT\r\n") == 503
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
