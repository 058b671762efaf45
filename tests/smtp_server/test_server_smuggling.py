"""SMTP smuggling: nothing but CRLF.CRLF as received ends a message (VU#302671), over real sockets."""

import pytest

from relay_config.schema import Limits
from tests.support.raw_smtp import listening
from tests.support.remembering_handler import RememberingHandler
from tests.support.smuggling import VARIANTS, bare

SMUGGLED = b"MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<user@local.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"


@pytest.mark.parametrize("trusted", [False, True], ids=["stranger", "trusted"])
@pytest.mark.parametrize("x", VARIANTS, ids=repr)
async def test_one_message_and_one_reply(x, trusted):
    async with listening(RememberingHandler(trusted=trusted)) as server:
        client = await server.connect()
        await client.envelope()
        reply = await client.say(b"Subject: outer\r\n\r\nbody" + x + SMUGGLED)
        # A sentinel: were there a second reply, it would come before this one.
        assert (await client.say("NOOP")).startswith("250 2.0.0 OK")
        if bare(x) and not trusted:
            assert reply.startswith("554 5.6.11 ")
        if b"\0" in x:
            assert reply.startswith("554 5.6.11 ")
        if reply.startswith("250"):
            (message,) = server.handler.messages
            assert message.transaction.sender == "s@ext.test"
            assert b"MAIL FROM:<smuggled@evil.test>" in message.octets
            assert not bare(message.octets)
        else:
            assert not server.handler.messages


@pytest.mark.parametrize("x", [v for v in VARIANTS if bare(v) and b"\0" not in v], ids=repr)
async def test_normalising_loses_no_line(x):
    """A line that only normalising makes may begin with a dot; it is part of the message."""
    async with listening(RememberingHandler(trusted=True)) as server:
        client = await server.connect()
        await client.envelope()
        assert await client.code(b"A: b\r\n\r\none" + x + b"two\r\n.\r\n") == 250
        (message,) = server.handler.messages
        assert message.octets.startswith(b"A: b\r\n\r\none\r\n")
        assert message.octets.endswith(b"two\r\n")
        # A dot after CRLF on the wire is stuffing; after anything else it is text.
        assert (b"." in message.octets) is not x.startswith((b"\r\n.", b"\r\r\n."))


@pytest.mark.parametrize("bare_end", [b"\n", b"\r"])
async def test_only_a_dot_after_crlf_is_taken_for_stuffing(bare_end):
    """Also where real stuffing is near: another server would find other lines, or an end, where a dot went missing."""
    async with listening(RememberingHandler(trusted=True)) as server:
        client = await server.connect()
        await client.envelope()
        text = b"..real\r\none" + bare_end + b".two" + bare_end + b"..three\r\n..real\r\n"
        assert await client.code(b"A: b\r\n\r\n" + text + b".\r\n") == 250
        (message,) = server.handler.messages
        assert message.octets == b"A: b\r\n\r\n.real\r\none\r\n.two\r\n..three\r\n.real\r\n"


@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_the_real_end_may_come_in_pieces(at):
    async with listening() as server:
        client = await server.connect()
        await client.envelope()
        end = b"\r\n.\r\n"
        client.send(b"A: b\r\n\r\nx" + end[:at])
        await client.writer.drain()
        # A second connection's round trip: the first piece has arrived by then.
        other = await server.connect()
        await other.code("NOOP")
        assert await client.code(end[at:]) == 250
        assert server.handler.messages[0].octets == b"A: b\r\n\r\nx\r\n"


@pytest.mark.parametrize("n", [510, 511, 512, 1022, 1024, 2048, 4096, 8192, 65536, 262144])
async def test_a_dot_at_a_buffer_boundary_is_no_end(n):
    async with listening() as server:
        client = await server.connect()
        await client.envelope()
        client.send(b"A" * n + b".\r\n")
        await client.writer.drain()
        reply = await client.say(b"x\r\n.\r\n")
        assert reply.startswith("250" if n < 998 else "500 5.5.2")
        assert await client.code("NOOP") == 250


async def test_commands_behind_an_oversized_message_are_not_run():
    async with listening(max_message_size=1000) as server:
        client = await server.connect()
        await client.envelope()
        client.send((b"x" * 70 + b"\r\n") * 100 + b"\n.\r\nHELP\r\n")
        await client.writer.drain()
        assert (await client.say(b"more\r\n.\r\n")).startswith("552 5.3.4 ")
        assert (await client.say("NOOP")).startswith("250 2.0.0 OK")
        assert not server.handler.messages


async def test_the_end_and_the_next_command_may_share_a_segment():
    async with listening() as server:
        client = await server.connect()
        await client.envelope()
        client.send(b"A: b\r\n\r\nx\r\n.\r\nMAIL FROM:<t@ext.test>\r\nRCPT TO:<u@local.test>\r\nDATA\r\n")
        assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        assert await client.code(b"C: d\r\n\r\ny\r\n.\r\n") == 250
        assert [m.transaction.sender for m in server.handler.messages] == ["s@ext.test", "t@ext.test"]


@pytest.mark.parametrize("trusted", [False, True])
async def test_content_sent_without_waiting_for_354_ends_the_session(trusted):
    async with listening(RememberingHandler(trusted=trusted)) as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        client.send(
            b"MAIL FROM:<s@ext.test>\r\nRCPT TO:<user@local.test>\r\nDATA\r\nA: b\r\n\r\nx\r\n.\r\nHELP\r\nQUIT\r\n"
        )
        assert [line[:9] for line in (await client.rest()).splitlines()] == ["250 2.1.0", "250 2.1.5", "554 5.5.0"]
        assert not server.handler.messages


@pytest.mark.parametrize("separator", [b"\n", b"\r", b"\0", b"\n\n", b"\r\r"], ids=repr)
async def test_bare_line_ends_make_no_second_command(separator):
    async with listening() as server:
        client = await server.connect()
        await client.code("EHLO c.test")
        reply = await client.say(b"MAIL FROM:<a@ext.test>" + separator + b"RCPT TO:<b@local.test>\r\n")
        assert reply[:3] in {"500", "501"}
        assert (await client.say("NOOP")).startswith("250 2.0.0 OK")
        assert await client.code("RCPT TO:<b@local.test>") == 503


async def test_a_client_that_ends_lines_with_lf_alone_is_told_so():
    async with listening() as server:
        client = await server.connect()
        assert (await client.say(b"EHLO c.test\n")).startswith("500 5.5.2 ")
        client.send(b"MAIL FROM:<a@ext.test>\nRCPT TO:<b@local.test>\n\r\n")
        assert (await client.say("NOOP")).startswith("250 2.0.0 OK")


async def test_an_endless_line_in_data_keeps_memory_flat():
    import resource

    async with listening(limits=Limits()) as server:
        client = await server.connect()
        await client.envelope()
        block = b"x" * (1 << 18)
        for _ in range(8):
            client.send(block)
            await client.writer.drain()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(120):
            client.send(block)
            await client.writer.drain()
        assert (await client.say(b"\r\n.\r\n")).startswith("500 5.5.2 ")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096
        assert server.handler.contents[0].size == 0
