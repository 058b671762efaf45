import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.message.dkim.canonical import body_hash
from relay.message.dkim.sign import OVERSIGNED, DomainSigner, KeyRing
from relay.message.headers import Header
from tests.support.dkim_keys import key, results

NOW = 1_767_323_045.0
ED, RSA = key(), key(algorithm="rsa")
BOTH = DomainSigner([RSA, ED])
ONLY_ED = DomainSigner([ED])
FULL = (
    b"Received: from x\r\n\tby y; z\r\n"
    b"From: A <a@example.org>\r\nTo: b@example.net,\r\n\tc@example.net\r\nSubject:  an \t odd\r\n  subject \r\n"
    b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <x@example.org>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nList-Unsubscribe: <https://x.test>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nX-Other: y\r\n\r\n"
)


def sign(head, body, signer=ONLY_ED):
    header = Header.scan(head)
    assert header.problem is None
    return signer.sign(header, body_hash([body]), NOW) + head + body


BODIES = {
    "empty": b"",
    "one line": b"hello\r\n",
    "no final CRLF": b"hello",
    "blank lines at the end": b"hello\r\n\r\n\r\n",
    "only blank lines": b"\r\n\r\n\r\n",
    "blanks at line ends": b"a \r\nb\t\r\n \t \r\nc  d\t\te\r\n",
    "lines of blanks at the end": b"x\r\n \r\n\t\r\n",
    "8-bit": "grüße\r\n".encode() + b"\xff\xfe\r\n",
    "a long line": b"x" * 998 + b"\r\n",
    "dots": b".\r\n..\r\n.x\r\n",
    "signature in the body": b"\r\nDKIM-Signatur: v=1; b=abc\r\n",
    "large": b"0123456789abcdef \r\n" * 20_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_both_signatures_verify(body):
    assert results(sign(FULL, body, BOTH), RSA, ED) == [True, True]


HEADERS = {
    "minimal": b"From: a@example.org\r\n\r\n",
    "8-bit": "From: ä <a@example.org>\r\nSubject: grüße\r\n\r\n".encode(),
    "empty values": b"From: a@example.org\r\nSubject:\r\nTo: \r\nCc:\t\r\n\r\n",
    "no blank after the colon": b"From:a@example.org\r\nSubject:x\r\n\r\n",
    "duplicates": b"From: a@example.org\r\nReferences: <1>\r\nX: y\r\nreferences: <2>\r\nREFERENCES: <3>\r\n\r\n",
    "odd cases": b"fRoM: a@example.org\r\nMIME-VERSION: 1.0\r\n\r\n",
    "resent": b"Resent-From: z@x\r\nResent-To: y@x\r\nResent-From: w@x\r\nFrom: a@example.org\r\n\r\n",
    "long": b"From: a@example.org\r\nReferences: " + b" ".join([b"<%d@x>" % n for n in range(100)]) + b"\r\n\r\n",
    "many folds": b"From: a@example.org\r\nSubject: a\r\n \r\n\tb\r\n   c\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADERS.values(), ids=HEADERS)
def test_odd_headers_verify(head):
    assert results(sign(head, b"hi\r\n"), ED) == [True]


def test_the_form_of_a_signature():
    message = sign(FULL, b"hi\r\n", BOTH)
    field = Header.scan(message[: message.index(b"Received:")] + b"\r\n").fields[0]
    assert max(map(len, field.split(b"\r\n"))) <= 78
    value = re.sub(rb"\s", b"", field.partition(b":")[2])
    tags = dict(part.split(b"=", 1) for part in value.split(b";"))
    assert list(tags) == [b"v", b"a", b"c", b"d", b"s", b"t", b"h", b"bh", b"b"]
    assert tags[b"a"] == b"rsa-sha256"
    assert tags[b"d"] == b"example.org"
    assert tags[b"t"] == b"1767323045"
    names = tags[b"h"].lower().split(b":")
    for name in OVERSIGNED:
        present = Header.scan(FULL).count(name.lower().encode())
        assert names.count(name.lower().encode()) == present + 1
    assert names.count(b"list-unsubscribe-post") == 1
    assert b"received" not in names
    assert b"x-other" not in names


def test_signatures_that_expire():
    one = key(expire_after=3600)
    assert b"t=1767323045; x=1767326645;" in sign(FULL, b"", DomainSigner([one]))


@pytest.mark.parametrize("name", OVERSIGNED)
def test_an_added_field_breaks_the_signature(name):
    message = sign(FULL, b"hi\r\n")
    assert results(message, ED) == [True]
    added = f"{name}: added@evil.test\r\n".encode()
    assert results(added + message, ED) == [False]
    assert results(message.replace(b"X-Other: y\r\n", added), ED) == [False]


@pytest.mark.parametrize(
    ("old", "new"), [(b"hi", b"ho"), (b"odd", b"even"), (b"One-Click", b"Two"), (b"a@ex", b"b@ex")]
)
def test_a_change_breaks_the_signature(old, new):
    assert results(sign(FULL, b"hi\r\n").replace(old, new), ED) == [False]


def test_a_trace_field_does_not():
    assert results(b"Received: from y\r\n" + sign(FULL, b"hi\r\n"), ED) == [True]


def test_many_shapes_do_not_fill_memory():
    signer = DomainSigner([ED])
    for count in range(200):
        head = b"From: a@example.org\r\n" + b"References: x\r\n" * count + b"\r\n"
        signer.sign(Header.scan(head), body_hash([]), NOW)
    assert len(signer._shapes) <= 64
    assert results(sign(b"From: a@example.org\r\n" + b"References: x\r\n" * 150 + b"\r\n", b"", signer), ED) == [True]


def test_choosing_a_signer():
    ring = KeyRing({"Example.org": [ED], "news.example.org": [key("news.example.org")], "empty.test": []})
    assert ring.find("example.org").domain == "example.org"
    assert ring.find("mail.example.org").domain == "example.org"
    assert ring.find("news.example.org").domain == "news.example.org"
    assert ring.find("a.b.news.example.org").domain == "news.example.org"
    assert ring.find("badexample.org") is None
    assert ring.find("org") is None
    assert ring.find("empty.test") is None
    assert ring.find("[192.0.2.1]") is None
    assert ring.find("") is None


def test_only_rsa_is_slow():
    assert BOTH.slow
    assert not ONLY_ED.slow


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0", categories=("L", "N", "P", "Zs")), max_size=30)
FIELD = st.tuples(
    st.sampled_from(["To", "Cc", "Subject", "X-A", "Sender", "References", "content-type", "List-Id"]),
    st.lists(TEXT, min_size=1, max_size=3),
).map(lambda pair: pair[0] + ": " + "\r\n ".join(pair[1]) + "\r\n")


@settings(max_examples=60, deadline=None)
@given(st.lists(FIELD, max_size=8), st.lists(TEXT, max_size=10))
def test_any_message_verifies(fields, lines):
    head = "From: a@example.org\r\n" + "".join(fields) + "\r\n"
    body = "".join(line + "\r\n" for line in lines)
    assert results(sign(head.encode(), body.encode()), ED) == [True]
