"""The receiver that other tests rely on, checked with the standard library's client and with raw sockets."""

import asyncio
import smtplib
import socket

import pytest

from tests.support.answers import Close, Trickle
from tests.support.certificates import client_context
from tests.support.receiver import Receiver

BODY = b"Subject: x\r\n\r\n.dot\r\nbody\r\n"


def _send(receiver: Receiver, to: list[str], body: bytes = BODY) -> dict[str, tuple[int, bytes]]:
    with smtplib.SMTP(receiver.address, receiver.port, local_hostname="c.test", timeout=10) as client:
        return client.sendmail("s@ext.test", to, body)


def test_remembers_a_message():
    with Receiver().in_thread() as receiver:
        _send(receiver, ["a@y.test", "b@y.test"])
        (message,) = receiver.messages
        assert message.sender == "s@ext.test"
        assert [r.address for r in message.recipients] == ["a@y.test", "b@y.test"]
        assert message.content == BODY
        assert message.raw == b"Subject: x\r\n\r\n..dot\r\nbody\r\n.\r\n"
        assert message.params["SIZE"] == str(len(BODY))
        assert message.tls is None
        assert receiver.sessions[0].helo == "c.test"
        assert receiver.problems == []


def test_sequences_and_tables():
    script = {"x@y.test": ["450 4.2.0 wait", "250 2.1.5 ok"], "*": "550 5.1.1 no"}
    with Receiver(rcpt=script).in_thread() as receiver:
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            _send(receiver, ["x@y.test", "z@y.test"])
        assert {a: code for a, (code, _) in caught.value.recipients.items()} == {"x@y.test": 450, "z@y.test": 550}
        assert _send(receiver, ["x@y.test", "z@y.test"]) == {"z@y.test": (550, b"5.1.1 no")}
        assert receiver.recipients() == ["x@y.test"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_tls_and_auth(mechanism):
    with (
        Receiver(starttls=True, users={"u": "p"}, auth=(mechanism,), auth_required=True).in_thread() as receiver,
        smtplib.SMTP("localhost", receiver.port, timeout=10) as client,
    ):
        client.starttls(context=client_context())
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("u", "wrong")
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("s@ext.test", ["a@y.test"], BODY)
        client.login("u", "p")
        client.sendmail("s@ext.test", ["a@y.test"], BODY)
        assert receiver.messages[0].tls == "TLSv1.3"
        assert receiver.messages[0].session.user == "u"


def test_implicit_tls():
    with (
        Receiver(implicit_tls=True).in_thread() as receiver,
        smtplib.SMTP_SSL("localhost", receiver.port, timeout=10, context=client_context()) as client,
    ):
        client.sendmail("s@ext.test", ["a@y.test"], BODY)
        assert receiver.messages[0].tls == "TLSv1.3"


def test_closing_after_the_final_dot():
    with Receiver(content=Close()).in_thread() as receiver:
        with pytest.raises(smtplib.SMTPServerDisconnected):
            _send(receiver, ["a@y.test"])
        assert receiver.messages == []
        assert receiver.refused[0].reply is None
        assert receiver.refused[0].content == BODY


def test_octets_come_singly():
    with Receiver(greeting=Trickle()).in_thread() as receiver:
        _send(receiver, ["a@y.test"])
        assert len(receiver.messages) == 1


def test_notices_bare_newlines():
    with Receiver().in_thread() as receiver:
        address = receiver.address, receiver.port
        with socket.create_connection(address, timeout=10) as client, client.makefile("rb") as replies:
            assert replies.readline().startswith(b"220 ")
            lines = [b"EHLO c.test", b"MAIL FROM:<s@ext.test>", b"RCPT TO:<a@y.test>", b"DATA"]
            for line in lines:
                client.sendall(line + b"\r\n")
                while replies.readline()[3:4] != b" ":
                    pass
            client.sendall(b"bad\nline\r\n.\r\n")
            assert replies.readline().startswith(b"250")
        assert len(receiver.problems) == 1
        assert "bare" in receiver.problems[0]


async def test_counts_and_waits():
    async with Receiver() as receiver:
        streams = [await asyncio.open_connection(receiver.address, receiver.port) for _ in range(3)]
        await receiver.until(lambda: receiver.open == 3)
        for _, writer in streams:
            writer.close()
            await writer.wait_closed()
        await receiver.until(lambda: receiver.open == 0)
        assert receiver.peak == 3
        assert receiver.peak_connection_rate(60) == 3
        with pytest.raises(AssertionError, match="not so"):
            await receiver.wait(1, seconds=0.05)
