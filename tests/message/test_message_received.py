import pytest
from msgspec.structs import replace

from relay.message.headers import Header
from relay.message.received import Hop, protocol, received

HOP = Hop(
    helo="client.example",
    address="192.0.2.7",
    extended=True,
    tls="TLSv1.3 TLS_AES_256_GCM_SHA384",
    authenticated=True,
    smtputf8=False,
    hostname="mail.example.com",
    id="0abc",
    recipient="user@example.org",
    at=1_767_323_045.9,
)


def test_the_whole_field():
    assert received(HOP) == (
        b"Received: from client.example ([192.0.2.7])\r\n"
        b"\tby mail.example.com with ESMTPSA (TLSv1.3 TLS_AES_256_GCM_SHA384)\r\n"
        b"\tid 0abc\r\n"
        b"\tfor <user@example.org>;\r\n"
        b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("extended", "tls", "authenticated", "smtputf8", "word"),
    [
        (False, None, False, False, "SMTP"),
        (True, None, False, False, "ESMTP"),
        (True, "x", False, False, "ESMTPS"),
        (True, None, True, False, "ESMTPA"),
        (True, "x", True, False, "ESMTPSA"),
        (True, None, False, True, "UTF8SMTP"),
        (True, "x", False, True, "UTF8SMTPS"),
        (True, None, True, True, "UTF8SMTPA"),
        (True, "x", True, True, "UTF8SMTPSA"),
    ],
)
def test_with_keywords(extended, tls, authenticated, smtputf8, word):
    hop = replace(HOP, extended=extended, tls=tls, authenticated=authenticated, smtputf8=smtputf8)
    assert protocol(hop) == word


def test_several_recipients_are_not_named():
    assert b"for <" not in received(replace(HOP, recipient=None))


def test_an_ipv6_client():
    field = received(replace(HOP, address="2001:db8::1", helo=""))
    assert field.startswith(b"Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n")


@pytest.mark.parametrize(
    "helo", ["x\r\nBcc: e@x.test", "a) by evil (b", "x\0y", "\x1b[31m", "é", "x;y", "a\n", "\u202e", "x" * 5000]
)
def test_a_hostile_helo_forges_nothing(helo):
    field = received(replace(HOP, helo=helo))
    header = Header.scan(field)
    assert header.problem is None
    assert header.names == [b"received"]
    assert field.count(b"(") == 2
    assert field.isascii()
    assert max(map(len, field.split(b"\r\n"))) < 320


@pytest.mark.parametrize("recipient", ["a\r\nBcc: x@y", '"a\\\rb"@x.test', "a>b@x.test", "é@x.test", "x" * 300 + "@y"])
def test_an_unsafe_recipient_is_left_out(recipient):
    assert received(replace(HOP, recipient=recipient)) == received(replace(HOP, recipient=None))


def test_a_utf8_recipient_is_named_under_smtputf8():
    assert "for <é@x.test>;".encode() in received(replace(HOP, recipient="é@x.test", smtputf8=True))


def test_lines_are_short():
    assert max(map(len, received(HOP).split(b"\r\n"))) <= 78
