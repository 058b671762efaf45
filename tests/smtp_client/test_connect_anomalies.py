"""Replies before, between and behind those that are due, up to STARTTLS and at QUIT: none steers what is done in TLS.

The replies are those of somebody on the path who wants plaintext, other abilities, or a delivery that was none (the
anomalies of NO STARTTLS, 2021).
"""

import pytest

from relay.smtp.client.model import Stage, TlsPolicy
from tests.support.answers import Close, Endless, Hang, Trickle
from tests.support.client import SHORT, codes, delivers, dial, outgoing, refused
from tests.support.receiver import Receiver

ALL = [TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.VERIFY]
OFFER = b"250-mx.test\r\n250 STARTTLS\r\n"


@pytest.mark.parametrize("policy", ALL)
@pytest.mark.parametrize(
    "injected",
    [
        b"250-mx.test\r\n250 AUTH PLAIN\r\n",
        b"250-mx.test\r\n250-SIZE 1\r\n250 ok\r\n250 ok\r\n354 go\r\n250 2.0.0 queued\r\n",
        b"250-mx.test\r\n",
        b"25",
        b"220 ready\r\n",
        b"421 4.3.2 closing\r\n",
        b"\0\r\n",
        b"250 x" * 100,
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else value.name,
)
async def test_what_lies_behind_220_is_gone_in_tls(policy, injected):
    async with Receiver(starttls=True, tls=b"220 ready\r\n" + injected) as receiver:
        connection = await dial(receiver, policy)
        assert connection.tls is not None
        assert connection.features.size == 100 * 1024 * 1024
        assert connection.features.auth == ()
        assert await delivers(connection)
        assert [message.tls for message in receiver.messages] == ["TLSv1.3"]
        assert len(receiver.sessions) == 1
        assert receiver.problems == []


@pytest.mark.parametrize("policy", ALL)
@pytest.mark.parametrize(
    ("script", "stage"),
    [
        ({"greeting": b"220 mx.test\r\n250-mx.test\r\n250 SIZE\r\n"}, Stage.GREETING),
        ({"greeting": b"220 mx.test\r\n" + OFFER + b"220 go\r\n"}, Stage.GREETING),
        ({"greeting": b"220 mx.test\r\n250"}, Stage.GREETING),
        ({"ehlo": OFFER + b"220 go\r\n"}, Stage.EHLO),
        ({"ehlo": OFFER + b"454 4.7.0 not now\r\n"}, Stage.EHLO),
        ({"ehlo": OFFER + b"2"}, Stage.EHLO),
        ({"ehlo": b"250 mx.test\r\n250 ok\r\n250 ok\r\n354 go\r\n250 queued\r\n"}, Stage.EHLO),
    ],
    ids=repr,
)
async def test_a_reply_ahead_of_its_command_ends_all(policy, script, stage):
    """Not even plaintext where that is allowed: who answers ahead may just have taken STARTTLS out."""
    async with Receiver(starttls=True, **script) as receiver:
        error = await refused(receiver, policy)
        assert (error.stage, error.kind) == (stage, "protocol")
        said = [command.split()[0] for session in receiver.sessions for command in session.commands]
        assert set(said) <= {"EHLO"}


def within(answer):
    """An EHLO that is answered well in plaintext, and so within TLS."""
    return lambda session, _: answer if session.tls else OFFER


@pytest.mark.parametrize("policy", ALL)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"250-mx.test\r\n250 PIPELINING\r\n250 ok\r\n", "protocol"),
        (b"250 mx.test\r\n250", "protocol"),
        (b"220 mx.test\r\n", "protocol"),
        (b"what\r\n", "protocol"),
        ("421 4.3.2 closing", "reply"),
        ("450 not now", "reply"),
        (Close(), "closed"),
        (Hang(), "timeout"),
        (Endless(), "protocol"),
    ],
    ids=repr,
)
async def test_an_ehlo_within_tls_of_no_use(policy, answer, kind):
    """There is no way back to plaintext once TLS was reached."""
    async with Receiver(starttls=True, ehlo=within(answer)) as receiver:
        error = await refused(receiver, policy, timeouts=SHORT)
        assert (error.stage, error.kind) == (Stage.EHLO, kind)
        assert not receiver.messages
        assert not any(command.startswith("MAIL") for session in receiver.sessions for command in session.commands)


@pytest.mark.parametrize("policy", ALL)
async def test_starttls_is_not_said_twice(policy):
    async with Receiver(starttls=True, ehlo=within(OFFER)) as receiver:
        connection = await dial(receiver, policy)
        assert await delivers(connection)
        assert receiver.sessions[0].commands.count("STARTTLS") == 1


@pytest.mark.parametrize("tls", [False, True], ids=["plaintext", "tls"])
@pytest.mark.parametrize(
    "answer",
    [
        "221 2.0.0 bye",
        "421 4.3.2 closing",
        "554 5.5.0 no",
        b"221 bye\r\n250 2.0.0 queued\r\n",
        b"221-bye\r\n",
        b"22",
        b"nonsense\r\n",
        b"\xff\0\x16\x03\r\n",
        b"221 " + b"x" * 300_000 + b"\r\n",
        Endless(b"221-bye\r\n"),
        Endless(b"x"),
        Trickle("221 bye", 0.01),
        Close(),
        Close(reset=True),
        Hang(),
    ],
    ids=lambda value: repr(value)[:50],
)
async def test_replies_to_quit(answer, tls):
    """Whatever is said then: the message before it stays delivered, once, and the connection goes."""
    async with Receiver(starttls=tls, quit=answer) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        assert codes(await connection.send(outgoing())) == [250]
        await connection.quit()
        assert connection.closed
        assert not connection.usable
        await receiver.until(lambda: receiver.open == 0)
        assert len(receiver.messages) == len(receiver.sessions) == 1
