"""Transactions over real sockets with receivers that behave."""

import asyncio
import io

import pytest

from relay.smtp.client.model import OutgoingRecipient, SessionError, Stage, Timeouts, TlsPolicy
from tests.support.answers import Delay, Trickle
from tests.support.client import codes, dial, outgoing
from tests.support.receiver import Receiver

LARGE = b"".join(b"%07d .\r\n.%07d\r\n" % (n, n) for n in range(250_000))
HEADER = b"Subject: large\r\n\r\n"


def large(*recipients, content=LARGE, **more):
    return outgoing(
        *recipients, content=HEADER, size=len(HEADER) + len(content), open_file=lambda: io.BytesIO(content), **more
    )


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.parametrize("pipelining", [True, False])
async def test_several_messages_on_one_connection(pipelining, tls):
    async with Receiver(pipelining=pipelining, starttls=tls) as receiver:
        connection = await dial(receiver)
        for n in range(5):
            result = await connection.send(outgoing(f"{n}@y.test", content=b"Subject: x\r\n\r\n%d\r\n.\r\n..\r\n" % n))
            assert codes(result) == [250]
            assert result.reusable
            assert result.dsn
            assert result.remote == connection.remote
            assert (result.tls is not None) is tls
            assert connection.usable
        await connection.quit()
        assert not connection.usable
        assert receiver.recipients() == [f"{n}@y.test" for n in range(5)]
        assert receiver.messages[3].content == b"Subject: x\r\n\r\n3\r\n.\r\n..\r\n"
        assert receiver.messages[3].raw == b"Subject: x\r\n\r\n3\r\n..\r\n...\r\n.\r\n"
        assert receiver.messages[3].params["SIZE"] == str(len(receiver.messages[3].content))
        assert len(receiver.sessions) == 1
        assert receiver.sessions[0].commands[-1] == "QUIT"
        assert receiver.problems == []


async def test_one_write_for_the_whole_envelope():
    """The receiver's answer to MAIL is held back; RCPT and DATA must be there all the same."""
    gate = asyncio.Event()
    async with Receiver(mail=Delay(gate)) as receiver:
        connection = await dial(receiver)
        sending = asyncio.ensure_future(connection.send(outgoing("a@y.test", "b@y.test")))
        await receiver.until(lambda: receiver.sessions[0].commands[-1].startswith("MAIL"))
        assert bytes(receiver.sessions[0]._in) == b"RCPT TO:<a@y.test>\r\nRCPT TO:<b@y.test>\r\nDATA\r\n"
        gate.set()
        assert codes(await sending) == [250, 250]
        await connection.quit()


@pytest.mark.parametrize("pipelining", [True, False])
async def test_mixed_recipients(pipelining):
    script = {"b@y.test": ["450 4.2.0 wait", "250 2.1.5 ok"], "c@y.test": "550 5.1.1 no"}
    async with Receiver(rcpt=script, pipelining=pipelining) as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test", "b@y.test", "c@y.test"))
        assert codes(result) == [250, 450, 550]
        assert result.reusable
        assert codes(await connection.send(outgoing("b@y.test"))) == [250]
        assert receiver.recipients() == ["a@y.test", "b@y.test"]
        await connection.quit()


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(
    "script",
    [
        {"mail": ["451 4.3.0 no", None]},
        {"rcpt": ["550 5.1.1 no", None]},
        {"data": ["452 4.3.1 no", None]},
        {"content": ["554 5.6.0 no", None]},
    ],
)
async def test_the_next_message_is_not_touched_by_a_refusal(script, pipelining):
    async with Receiver(pipelining=pipelining, **script) as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test", content=b"Subject: 1\r\n\r\n1\r\n"))
        assert result.replies[0].code >= 400
        assert result.reusable
        result = await connection.send(outgoing("b@y.test", content=b"Subject: 2\r\n\r\n2\r\n"))
        assert codes(result) == [250]
        assert receiver.recipients() == ["b@y.test"]
        assert receiver.messages[0].content == b"Subject: 2\r\n\r\n2\r\n"
        await connection.quit()


async def test_nobody_accepted_and_data_goes_ahead():
    async with Receiver(rcpt="550 5.1.1 no", data="354 go on then", content="554 5.5.1 nobody") as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test", "b@y.test"))
        assert codes(result) == [550, 550]
        assert result.reusable
        assert receiver.messages == []
        assert receiver.refused[0].content == b""
        await connection.quit()


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "content"])
async def test_replies_octet_by_octet(stage):
    async with Receiver(**{stage: Trickle()}) as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(outgoing("a@y.test", "b@y.test"))) == [250, 250]
        await connection.quit()


async def test_multiline_replies():
    async with Receiver(content="250-2.0.0 one\n250-2.0.0 two\n250 2.0.0 three") as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing())
        assert result.replies[0].text == "one\ntwo\nthree"
        assert result.replies[0].enhanced == "2.0.0"
        await connection.quit()


async def test_a_thousand_recipients():
    async with Receiver(rcpt=lambda _, address: f"{550 if address.startswith('9') else 250} x") as receiver:
        connection = await dial(receiver)
        addresses = [f"{n}@y.test" for n in range(1000)]
        result = await connection.send(outgoing(*addresses))
        assert codes(result) == [550 if address.startswith("9") else 250 for address in addresses]
        assert len(receiver.recipients()) == codes(result).count(250)
        await connection.quit()


@pytest.mark.parametrize("tls", [True, False])
async def test_a_large_message(tls):
    async with Receiver(starttls=tls) as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(large())) == [250]
        assert receiver.messages[0].content == HEADER + LARGE
        assert codes(await connection.send(outgoing())) == [250]
        assert receiver.problems == []
        await connection.quit()


async def test_a_large_message_to_a_slow_reader():
    """Write-side backpressure: little is buffered here while the receiver does not read."""
    gate = asyncio.Event()
    peak = 0

    async def wait(session, _):
        await session.say(None, "354 go")
        await gate.wait()
        return b""

    async with Receiver(data=wait) as receiver:
        connection = await dial(receiver)
        sending = asyncio.ensure_future(connection.send(large(content=LARGE * 4)))
        while not connection._paused:
            await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0.01)
            peak = max(peak, connection._transport.get_write_buffer_size())
        assert peak <= 1 << 20
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert connection.closed
        gate.set()
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.messages == []


@pytest.mark.parametrize(
    "content", [b"", b".", b".\r\n", b"Subject: x\r\n\r\nno end", b"\r\n.\r\n", b"Subject: x\r\n\r\n\xff\xfe\r\n"]
)
async def test_odd_contents(content):
    async with Receiver() as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(outgoing(content=content))) == [250]
        assert receiver.messages[0].content == (
            content if content.endswith(b"\r\n") or not content else content + b"\r\n"
        )
        assert codes(await connection.send(outgoing())) == [250]
        assert receiver.problems == []
        await connection.quit()


@pytest.mark.parametrize("bare", [b"\n.\n", b"\r.\r", b"\r\n.\n", b"\n.\r\n", b"\r\r\n.\r\r\n"])
@pytest.mark.parametrize("build", [outgoing, large])
async def test_bare_newlines_never_leave(bare, build):
    content = b"Subject: x\r\n\r\nx" + bare + b"MAIL FROM:<smuggled@evil.test>\r\n"
    async with Receiver() as receiver:
        connection = await dial(receiver)
        with pytest.raises(SessionError) as caught:
            await connection.send(build(content=content))
        assert (caught.value.stage, caught.value.kind) == (Stage.CONTENT, "local")
        assert not connection.usable
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.messages == []
        assert receiver.refused == []
        assert not any("smuggled" in command for command in receiver.sessions[0].commands)


async def test_dsn_parameters_and_eight_bits():
    recipient = OutgoingRecipient("r@y.test", "SUCCESS,FAILURE", "rfc822;r@y.test")
    message = outgoing(eightbit=True, ret="FULL", envid="e1")
    message.recipients = [recipient]
    async with Receiver() as receiver:
        connection = await dial(receiver)
        assert (await connection.send(message)).dsn
        taken = receiver.messages[0]
        assert taken.params == {"SIZE": "20", "BODY": "8BITMIME", "RET": "FULL", "ENVID": "e1"}
        assert taken.recipients[0].params == {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;r@y.test"}
        await connection.quit()
    async with Receiver(dsn=False, eightbit=False, size=None) as receiver:
        connection = await dial(receiver)
        assert not (await connection.send(message)).dsn
        assert receiver.messages[0].params == {}
        assert receiver.messages[0].recipients[0].params == {}
        await connection.quit()


async def test_eight_bit_content_goes_out_as_it_is():
    content = b"Subject: x\r\n\r\nf\xfcr \xc3\xbc\r\n"
    async with Receiver(eightbit=False) as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(outgoing(content=content, eightbit=True))) == [250]
        assert receiver.messages[0].content == content
        await connection.quit()


async def test_smtputf8():
    message = outgoing("ü@bücher.test", content="Subject: ü\r\n\r\nx\r\n".encode(), smtputf8=True)
    async with Receiver() as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(message)) == [250]
        assert receiver.recipients() == ["ü@bücher.test"]
        assert "SMTPUTF8" in receiver.messages[0].params
        await connection.quit()
    async with Receiver(smtputf8=False) as receiver:
        connection = await dial(receiver)
        result = await connection.send(message)
        assert [reply.enhanced for reply in result.replies] == ["5.6.7"]
        assert result.reusable
        assert codes(await connection.send(outgoing())) == [250]
        await connection.quit()
        assert [c.split()[0] for c in receiver.sessions[0].commands] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_too_large_for_the_peer():
    async with Receiver(size=10) as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test", "b@y.test"))
        assert [(reply.code, reply.enhanced) for reply in result.replies] == [(552, "5.3.4")] * 2
        assert result.reusable
        await connection.quit()
        assert [c.split()[0] for c in receiver.sessions[0].commands] == ["EHLO", "QUIT"]


async def test_an_address_that_would_inject_is_refused_alone():
    async with Receiver() as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test>\r\nRCPT TO:<victim@z.test", "b@y.test"))
        assert codes(result) == [553, 250]
        assert receiver.recipients() == ["b@y.test"]
        await connection.quit()


async def test_a_peer_that_hangs_up_while_idle():
    async with Receiver() as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(outgoing())) == [250]
        closed = asyncio.Event()
        connection.on_close = closed.set
        receiver.sessions[0].writer.close()
        await asyncio.wait_for(closed.wait(), 10)
        assert connection.closed
        assert not connection.usable
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert caught.value.fresh_connection_helps
        await connection.quit()


@pytest.mark.parametrize("notice", [b"421 4.4.2 idle too long\r\n", b"250 hello again\r\n", b"x"])
async def test_octets_while_idle_close_the_connection(notice):
    async with Receiver() as receiver:
        connection = await dial(receiver)
        closed = asyncio.Event()
        connection.on_close = closed.set
        receiver.sessions[0].writer.write(notice)
        await asyncio.wait_for(closed.wait(), 10)
        assert not connection.usable


async def test_a_kept_connection_that_breaks_at_once():
    gone = ["250 2.1.0 ok", "421 4.4.2 too many messages"]
    async with Receiver(mail=gone) as receiver:
        connection = await dial(receiver)
        assert codes(await connection.send(outgoing())) == [250]
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert caught.value.fresh_connection_helps
        assert caught.value.reply.code == 421
        connection = await dial(receiver)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert not caught.value.fresh_connection_helps


@pytest.mark.parametrize("answer", [None, "250 odd", "421 odd", b"nonsense\r\n", Trickle()])
@pytest.mark.parametrize("tls", [True, False])
async def test_quit(answer, tls):
    async with Receiver(quit=answer, starttls=tls) as receiver:
        connection = await dial(receiver)
        closes = []
        connection.on_close = lambda: closes.append(1)
        await connection.quit()
        await connection.quit()
        assert closes == [1]
        assert connection.closed
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.sessions[0].commands[-1] == "QUIT"


async def test_no_tasks_timers_or_sockets_are_left():
    async with Receiver(starttls=True) as receiver:
        before = asyncio.all_tasks()
        connection = await dial(receiver, TlsPolicy.REQUIRED, timeouts=Timeouts(command=1000))
        await connection.send(outgoing())
        assert connection._timer is not None
        await connection.quit()
        assert connection._timer is None
        await receiver.until(lambda: receiver.open == 0)
        assert {task for task in asyncio.all_tasks() if not task.done()} <= before
