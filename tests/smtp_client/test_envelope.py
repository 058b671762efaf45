"""MAIL and RCPT for each kind of peer."""

import pytest

from relay.smtp.client.envelope import plan
from relay.smtp.client.features import Features
from relay.smtp.client.model import Outgoing, OutgoingRecipient

FULL = Features(pipelining=True, eightbit=True, smtputf8=True, dsn=True, sized=True, size=1000)
NONE = Features()
ASCII = b"Subject: x\r\n\r\nbody\r\n"


def outgoing(sender="s@ext.test", to=("r@y.test",), head=ASCII, **more):
    recipients = [r if isinstance(r, OutgoingRecipient) else OutgoingRecipient(r) for r in to]
    return Outgoing(sender, recipients, head, more.pop("size", len(head)), **more)


def test_plain():
    envelope = plan(outgoing(), NONE)
    assert envelope.mail == b"MAIL FROM:<s@ext.test>\r\n"
    assert envelope.rcpts == [b"RCPT TO:<r@y.test>\r\n"]
    assert envelope.replies == [None]


def test_all_that_is_offered_and_wanted():
    recipient = OutgoingRecipient("r@y.test", "SUCCESS,DELAY", "rfc822;r+2B@y.test")
    envelope = plan(outgoing(to=[recipient], eightbit=True, ret="HDRS", envid="a+2B"), FULL)
    assert envelope.mail == b"MAIL FROM:<s@ext.test> SIZE=20 BODY=8BITMIME RET=HDRS ENVID=a+2B\r\n"
    assert envelope.rcpts == [b"RCPT TO:<r@y.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;r+2B@y.test\r\n"]


def test_nothing_that_is_not_offered():
    recipient = OutgoingRecipient("r@y.test", "SUCCESS", "rfc822;r@y.test")
    envelope = plan(outgoing(to=[recipient], eightbit=True, ret="FULL", envid="x", smtputf8=True), NONE)
    assert envelope.mail + envelope.rcpts[0] == b"MAIL FROM:<s@ext.test>\r\nRCPT TO:<r@y.test>\r\n"


def test_null_sender():
    assert plan(outgoing(sender=""), NONE).mail == b"MAIL FROM:<>\r\n"


def test_too_large():
    envelope = plan(outgoing(to=("a@y.test", "b@y.test"), size=1001), FULL)
    assert envelope.rcpts == []
    assert [(reply.code, reply.enhanced) for reply in envelope.replies] == [(552, "5.3.4")] * 2
    assert plan(outgoing(size=1000), FULL).rcpts


def test_size_without_limit():
    features = Features.parse({"size": "0"})
    assert plan(outgoing(size=10**9), features).mail == b"MAIL FROM:<s@ext.test> SIZE=1000000000\r\n"


UTF8_HEADER = "Subject: ü\r\n\r\nbody\r\n".encode()
UTF8_BODY = "Subject: x\r\n\r\nbody ü\r\n".encode()

UTF8 = [
    # sender, recipient, head, what a peer with SMTPUTF8 is told, what one without is told
    ("s@ext.test", "r@y.test", ASCII, ("s@ext.test", False, "r@y.test"), ("s@ext.test", "r@y.test")),
    ("s@ext.test", "r@y.test", UTF8_BODY, ("s@ext.test", False, "r@y.test"), ("s@ext.test", "r@y.test")),
    ("s@ext.test", "r@y.test", UTF8_HEADER, ("s@ext.test", True, "r@y.test"), None),
    ("s@ext.test", "ü@y.test", ASCII, ("s@ext.test", True, "ü@y.test"), None),
    ("ü@ext.test", "r@y.test", ASCII, ("ü@ext.test", True, "r@y.test"), None),
    (
        "s@ext.test",
        "r@bücher.test",
        ASCII,
        ("s@ext.test", True, "r@bücher.test"),
        ("s@ext.test", "r@xn--bcher-kva.test"),
    ),
    ("s@bücher.test", "r@y.test", ASCII, ("s@bücher.test", True, "r@y.test"), ("s@xn--bcher-kva.test", "r@y.test")),
    ("s@ext.test", "r@bücher.test", UTF8_HEADER, ("s@ext.test", True, "r@bücher.test"), None),
]


@pytest.mark.parametrize(("sender", "recipient", "head", "with_it", "without"), UTF8)
def test_smtputf8(sender, recipient, head, with_it, without):
    message = outgoing(sender, (recipient,), head, smtputf8=True)
    told, parameter, to = with_it
    envelope = plan(message, Features(smtputf8=True))
    assert envelope.mail.decode() == f"MAIL FROM:<{told}>{' SMTPUTF8' if parameter else ''}\r\n"
    assert envelope.rcpts[0].decode() == f"RCPT TO:<{to}>\r\n"
    envelope = plan(message, NONE)
    if without is None:
        assert envelope.rcpts == []
        assert [(r.code, r.enhanced) for r in envelope.replies] == [(553, "5.6.7")]
    else:
        assert envelope.mail.decode() == f"MAIL FROM:<{without[0]}>\r\n"
        assert envelope.rcpts[0].decode() == f"RCPT TO:<{without[1]}>\r\n"
    assert b"SMTPUTF8" not in envelope.mail


def test_only_those_who_need_smtputf8_fail():
    envelope = plan(outgoing(to=("ü@y.test", "r@y.test", "r@bücher.test"), smtputf8=True), NONE)
    assert envelope.indices == [1, 2]
    assert envelope.rcpts == [b"RCPT TO:<r@y.test>\r\n", b"RCPT TO:<r@xn--bcher-kva.test>\r\n"]
    assert [reply and reply.enhanced for reply in envelope.replies] == ["5.6.7", None, None]


EVIL = [
    "a@b.test>\r\nRCPT TO:<victim@z.test",
    "a@b.test\r",
    "a@b.test\n",
    "a\x00@b.test",
    "a@b.test> SIZE=1",
    "a b@b.test",
    "<a@b.test",
    "a>@b.test",
    "a@b@c.test",
    '"a\r\n"@b.test',
    '"a\\\rb"@b.test',
    '"a"b"@b.test',
    '"a\\"@b.test',
    "a\u0085@b.test",
    "a\u2028@b.test",
    "a\u202e@b.test",
    "a\x7f@b.test",
    "a" * 2000 + "@b.test",
    " ",
    "",
]


@pytest.mark.parametrize("address", EVIL)
@pytest.mark.parametrize("features", [FULL, NONE])
def test_evil_recipients_are_never_written(address, features):
    envelope = plan(outgoing(to=(address, "r@y.test"), smtputf8=True), features)
    assert envelope.indices == [1]
    assert envelope.rcpts[0].startswith(b"RCPT TO:<r@y.test>")
    assert envelope.replies[0].enhanced in {"5.1.3", "5.6.7"}


@pytest.mark.parametrize("address", EVIL[:-1])
@pytest.mark.parametrize("features", [FULL, NONE])
def test_evil_senders_are_never_written(address, features):
    envelope = plan(outgoing(address, ("a@y.test", "b@y.test"), smtputf8=True), features)
    assert envelope.rcpts == []
    assert {reply.enhanced for reply in envelope.replies} <= {"5.1.7", "5.6.7"}


@pytest.mark.parametrize(
    "address", ['"a b"@b.test', '"a>b"@b.test', '"a\\"b"@b.test', "a@[IPv6:::1]", "postmaster", "o'b+c=d@x"]
)
def test_odd_but_good_addresses(address):
    assert plan(outgoing(to=(address,)), NONE).rcpts == [f"RCPT TO:<{address}>\r\n".encode()]


@pytest.mark.parametrize("value", ["x y", "x\r\nDATA", "ü", "x\x00", "a" * 600])
def test_evil_parameters_are_left_out(value):
    recipient = OutgoingRecipient("r@y.test", value, value)
    envelope = plan(outgoing(to=[recipient], ret=value, envid=value), FULL)
    assert envelope.mail == b"MAIL FROM:<s@ext.test> SIZE=20\r\n"
    assert envelope.rcpts == [b"RCPT TO:<r@y.test>\r\n"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("0", None),
        ("", None),
        ("-1", None),
        ("x", None),
        ("\u0663", None),
        ("1" * 30, None),
        ("1_0", None),
    ],
)
def test_sizes_that_make_no_sense(text, size):
    assert Features.parse({"size": text}).size == size


def test_features():
    features = Features.parse(
        {"auth": "plain LOGIN", "limits": "MAILMAX=5 RCPTMAX=x rcptdomainmax=0", "pipelining": "", "dsn": ""}
    )
    assert features.auth == ("PLAIN", "LOGIN")
    assert (features.mail_max, features.rcpt_max, features.rcpt_domain_max) == (5, None, None)
    assert features.pipelining
    assert features.dsn
    assert not features.eightbit
