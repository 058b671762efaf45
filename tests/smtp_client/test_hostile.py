"""Receivers that break off, lie, hang or flood in a transaction: nothing is delivered that was not, nothing hangs.

Each script is played with and without PIPELINING. Afterwards a well-behaved session on the same receiver shows that
nothing of the broken one leaked.
"""

import asyncio
import io

import pytest

from relay.smtp.client.model import SessionError, Stage
from tests.support.answers import Close, Delay, Endless, Hang
from tests.support.client import SHORT, codes, dial, outgoing
from tests.support.receiver import Receiver

FLOOD = b"250 " + b"x" * 1_000_000 + b"\r\n"

# script, stage, kind; the message goes to two recipients
SCRIPTS = [
    ({"mail": Close()}, Stage.MAIL, "closed"),
    ({"mail": Close(reset=True)}, Stage.MAIL, "closed"),
    ({"mail": Hang()}, Stage.MAIL, "timeout"),
    ({"mail": Hang(b"25")}, Stage.MAIL, "timeout"),
    ({"mail": Hang(b"250-ok\r\n")}, Stage.MAIL, "timeout"),
    ({"mail": "421 4.3.0 closing"}, Stage.MAIL, "reply"),
    ({"mail": "354 go on"}, Stage.MAIL, "protocol"),
    ({"mail": b"what\r\n"}, Stage.MAIL, "protocol"),
    ({"mail": FLOOD}, Stage.MAIL, "protocol"),
    ({"mail": Endless()}, Stage.MAIL, "protocol"),
    ({"mail": Endless(b"x")}, Stage.MAIL, "protocol"),
    ({"mail": Endless(b"250 ok\r\n")}, None, None),
    ({"rcpt": Close()}, Stage.RCPT, "closed"),
    ({"rcpt": Close("250 ok")}, Stage.RCPT, "closed"),
    ({"rcpt": Hang()}, Stage.RCPT, "timeout"),
    ({"rcpt": "421 4.3.0 closing"}, Stage.RCPT, "reply"),
    ({"rcpt": ["250 ok", "421 4.3.0 closing"]}, Stage.RCPT, "reply"),
    ({"rcpt": "354 go on"}, Stage.RCPT, "protocol"),
    ({"rcpt": b"250-a\r\n550 b\r\n"}, Stage.RCPT, "protocol"),
    ({"data": Close()}, Stage.DATA, "closed"),
    ({"data": Hang()}, Stage.DATA, "timeout"),
    ({"data": "421 4.3.0 closing"}, Stage.DATA, "reply"),
    ({"data": "250 fine"}, Stage.DATA, "protocol"),
    ({"data": b"354 go\r\n250 taken already\r\n"}, None, "protocol"),
    ({"data": b"354 go\r\n25"}, None, "protocol"),
    ({"data": Endless(b"354-go\r\n")}, Stage.DATA, "protocol"),
    ({"data": Close("354 go")}, Stage.END, "closed"),
    ({"data": Close("354 go", reset=True)}, Stage.END, "closed"),
    ({"content": Close()}, Stage.END, "closed"),
    ({"content": Close(reset=True)}, Stage.END, "closed"),
    ({"content": Close(b"25")}, Stage.END, "closed"),
    ({"content": Hang()}, Stage.END, "timeout"),
    ({"content": "354 more"}, Stage.END, "timeout"),
    ({"content": b"queued, thanks\r\n"}, Stage.END, "timeout"),
    ({"content": b"2\r\n"}, Stage.END, "timeout"),
    ({"content": Endless(b"\r\n")}, Stage.END, "protocol"),
    ({"content": Endless(b"x")}, Stage.END, "protocol"),
    ({"content": b"250-queued\r\n550 or not\r\n"}, Stage.END, "protocol"),
]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("script", "stage", "kind"), SCRIPTS, ids=[repr(row[0])[:60] for row in SCRIPTS])
async def test_broken_transactions(script, stage, kind, pipelining):
    async with Receiver(pipelining=pipelining, **script) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing("a@y.test", "b@y.test"))
        error = caught.value
        assert stage is None or error.stage is stage
        assert kind is None or error.kind == kind
        assert error.remote == connection.remote
        assert str(error).isprintable()
        assert len(error.partial) == 2
        assert not any(reply is not None and reply.code < 400 for reply in error.partial)
        assert error.ambiguous == (error.stage is Stage.END and error.kind != "reply")
        assert not connection.usable
        assert connection.closed
        with pytest.raises(SessionError):
            await connection.send(outgoing())
        await receiver.until(lambda: receiver.open == 0)
        # What was broken stays there: the next session is clean.
        for name in script:
            receiver.scripts.set(name, None)
        connection = await dial(receiver, timeouts=SHORT)
        assert codes(await connection.send(outgoing("c@y.test"))) == [250]
        await connection.quit()
        took = receiver.recipients()
        assert took[-1:] == ["c@y.test"]
        assert error.stage is Stage.END or took == ["c@y.test"]


async def test_what_is_known_when_it_breaks():
    async with Receiver(rcpt={"b@y.test": "550 5.1.1 no"}, data=Close()) as receiver:
        connection = await dial(receiver)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing("a@y.test", "b@y.test", "c@y.test"))
        assert [reply and reply.code for reply in caught.value.partial] == [None, 550, None]


@pytest.mark.parametrize("after", [Close(), Close(reset=True)])
async def test_all_is_known_when_it_breaks(after):
    """Everybody was refused, then the peer hung up: that is a result."""
    async with Receiver(rcpt=["550 5.1.1 no", "551 5.1.6 gone"], data=after) as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test", "b@y.test"))
        assert codes(result) == [550, 551]
        assert not result.reusable
        assert not connection.usable


async def test_mail_refused_and_closed():
    async with Receiver(mail=Close("550 5.7.1 no")) as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing("a@y.test", "b@y.test"))
        assert codes(result) == [550, 550]
        assert not result.reusable


@pytest.mark.parametrize("extra", [b"421 4.7.0 too many messages\r\n", b"250 once more\r\n", b"250 half"])
async def test_noise_after_the_last_reply(extra):
    """The first reply to the final dot counts; what comes with it makes the connection useless, not the delivery."""
    async with Receiver(content=b"250 2.0.0 taken\r\n" + extra) as receiver:
        connection = await dial(receiver)
        result = await connection.send(outgoing())
        assert codes(result) == [250]
        assert not result.reusable
        assert not connection.usable


async def test_more_replies_than_commands_give_no_verdict():
    """One reply too many early on: 550 would be read as DATA's, and the recipient be failed for good."""
    async with Receiver(mail=b"250 ok\r\n250 ok again\r\n", rcpt="550 no", data="554 nobody") as receiver:
        connection = await dial(receiver)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert caught.value.kind == "protocol"
        assert caught.value.partial == [None]


async def test_pipelining_offered_and_not_kept():
    async with Receiver(discards=True) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert (caught.value.stage, caught.value.kind) == (Stage.RCPT, "timeout")
        assert receiver.messages == []


async def test_a_peer_that_answers_just_in_time_for_ever():
    """Each reply is in time, all together are not."""
    slow = Delay(0.2)
    async with Receiver(rcpt=slow, pipelining=False) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing(*(f"{n}@y.test" for n in range(100))))
        assert caught.value.kind == "timeout"
        assert len(receiver.sessions[0].recipients) < 20


async def test_octets_do_not_extend_the_wait():
    """A reply that comes octet by octet for ever runs into the command's time-out."""

    async def drip(session, _):
        while True:
            session.writer.write(b"250-x\r\n")
            await session.writer.drain()
            await asyncio.sleep(0.02)

    async with Receiver(mail=drip) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert (caught.value.stage, caught.value.kind) == (Stage.MAIL, "timeout")


BODY = b"0123456789abcde\r\n" * 100_000


def large(**more):
    head = b"Subject: x\r\n\r\n"
    return outgoing(content=head, size=len(head) + len(BODY), **{"open_file": lambda: io.BytesIO(BODY), **more})


@pytest.mark.parametrize(("reply", "code"), [("552 5.3.4 too large", 552), ("452 4.3.1 no room", 452)])
async def test_a_refusal_in_the_middle_of_a_large_message(reply, code):
    async def middle(session, _):
        await session.say(None, "354 go")
        await session.reader.read(1 << 16)
        return reply

    async with Receiver(data=middle) as receiver:
        connection = await dial(receiver)
        result = await connection.send(large())
        assert codes(result) == [code]
        assert not result.reusable
        assert receiver.messages == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("250 taken", "protocol"),
        ("354 more", "protocol"),
        (b"nonsense\r\n", "protocol"),
        (Close(), "closed"),
        (Close(reset=True), "closed"),
        (Delay(30), "timeout"),
    ],
)
async def test_trouble_in_the_middle_of_a_large_message(answer, kind):
    async def middle(session, _):
        await session.say(None, "354 go")
        await session.reader.read(1 << 16)
        return answer

    endless = BODY * 15  # more than the kernel's buffers take
    message = large(open_file=lambda: io.BytesIO(endless))
    message.size += len(endless) - len(BODY)
    async with Receiver(data=middle) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(message)
        assert (caught.value.stage, caught.value.kind) == (Stage.CONTENT, kind)
        assert not caught.value.ambiguous
        assert caught.value.partial == [None]
        assert connection.closed


class Broken(io.BytesIO):
    def read(self, *_):
        raise OSError(5, "Input/output error")


def missing():
    raise FileNotFoundError("gone")


@pytest.mark.parametrize("open_file", [missing, Broken, lambda: io.BytesIO(BODY[:-1]), lambda: io.BytesIO(BODY + b"x")])
async def test_a_body_that_can_not_be_read(open_file):
    async with Receiver() as receiver:
        connection = await dial(receiver)
        with pytest.raises(SessionError) as caught:
            await connection.send(large(open_file=open_file))
        assert (caught.value.stage, caught.value.kind) == (Stage.CONTENT, "local")
        assert not connection.usable
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.messages == []
        assert receiver.refused == []


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "content"])
async def test_cancelling_a_transaction(stage):
    async with Receiver(**{stage: Hang()}) as receiver:
        connection = await dial(receiver)
        sending = asyncio.ensure_future(connection.send(outgoing()))
        await receiver.until(lambda: receiver.sessions[0].commands[-1].split()[0].lower() in {stage, "data"})
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert connection.closed
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.messages == []


@pytest.mark.parametrize("tls", [True, False])
async def test_a_peer_that_ignores_quit(tls):
    async with Receiver(quit=Hang(), starttls=tls) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        await connection.quit()
        assert connection.closed
        await receiver.until(lambda: receiver.open == 0)


async def test_aborting():
    async with Receiver() as receiver:
        connection = await dial(receiver)
        connection.abort()
        connection.abort()
        assert connection.closed
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.sessions[0].commands == ["EHLO c.test"]
