"""Dot-stuffing in blocks, against a slow and obviously right reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.client.content import BareNewlineError, Stuffer, stuff


def reference(message: bytes) -> bytes:
    """Line by line, as RFC 5321 §4.5.2 tells it."""
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    lines = message.split(b"\r\n")[:-1]
    return b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines) + b".\r\n"


def unstuff(wire: bytes) -> bytes:
    """What a correct receiver makes of it."""
    end = (b"\r\n" + wire).index(b"\r\n.\r\n")
    assert end + 3 == len(wire), "the message ends once, at its end"
    return (b"\r\n" + wire[:end]).replace(b"\r\n.", b"\r\n")[2:]


MESSAGES = st.lists(
    st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r\n.", b"\r\n.\r\n", b"\r\n\r\n", b"bc", b"\x00", b"\xff"]),
    max_size=20,
).map(b"".join)


@given(MESSAGES)
def test_whole(message):
    wire = stuff(message)
    assert wire == reference(message)
    assert unstuff(wire) == (message if message.endswith(b"\r\n") or not message else message + b"\r\n")


@given(MESSAGES, st.lists(st.integers(0, 60), max_size=10))
def test_any_blocks(message, cuts):
    stuffer, wire, start = Stuffer(), b"", 0
    for cut in [*sorted(cut for cut in cuts if cut < len(message)), len(message)]:
        wire += stuffer.feed(message[start:cut])
        start = cut
    assert wire + stuffer.end() == reference(message)


@given(MESSAGES)
def test_octet_by_octet(message):
    stuffer = Stuffer()
    wire = b"".join(stuffer.feed(message[n : n + 1]) for n in range(len(message)))
    assert wire + stuffer.end() == reference(message)


BARE = [
    "\n.\n",
    "\n.\r",
    "\r.\n",
    "\r.\r",
    "\n.\r\n",
    "\r.\r\n",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n.\r\r\n",
    "\r\r\n.\r\r\n",
    "\n",
    "\r",
]


@pytest.mark.parametrize("bare", BARE)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_bare_newline_never_gets_out(bare, size):
    message = b"Subject: x\r\n\r\nbody" + bare.encode() + b"MAIL FROM:<smuggled@evil.test>"
    stuffer, written = Stuffer(), []

    def send():
        written.extend(stuffer.feed(message[start : start + size]) for start in range(0, len(message), size))
        written.append(stuffer.end())

    with pytest.raises(BareNewlineError):
        send()
    wire = b"".join(written)
    assert wire.replace(b"\r\n", b"").translate(None, b"\r\n") == wire.replace(b"\r\n", b"")
    assert b"\r\n.\r\n" not in wire


def test_a_cr_at_the_end():
    with pytest.raises(BareNewlineError):
        stuff(b"x\r")
