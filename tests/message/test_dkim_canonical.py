import hashlib

import dkim.canonicalization
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.message.dkim.canonical import BodyHash, body_hash, header_field


def reference_body(body):
    """RFC 6376 §3.4.4 in its own order of words: slow and obviously right."""
    if not body:
        return b""
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    lines = body.split(b"\r\n")[:-1]
    out = []
    for line in lines:
        octets = bytearray()
        for octet in line:
            blank = octet in b" \t"
            if blank and octets.endswith(b" "):
                continue
            octets.append(ord(" ") if blank else octet)
        if octets.endswith(b" "):
            octets.pop()
        out.append(bytes(octets))
    while out and not out[-1]:
        out.pop()
    return b"".join(line + b"\r\n" for line in out)


def reference_hash(body):
    return hashlib.sha256(reference_body(body)).digest()


EMPTY = hashlib.sha256(b"").digest()
BODIES = st.text(" \t\r\nab\x0b\x0cé", max_size=60).map(str.encode) | st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"\r\n\r\n", b"x", b"\r", b"\n", b".", b"  \t "]), max_size=40
).map(b"".join)


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", b""),
        (b"\r\n", b""),
        (b"\r\n" * 5, b""),
        (b" \t\r\n \r\n", b""),
        (b" ", b""),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        (b"no end", b"no end\r\n"),
        (b"\r\n\r\nx\r\n", b"\r\n\r\nx\r\n"),
        (b"a\x0b b\x0c\r\n", b"a\x0b b\x0c\r\n"),
    ],
)
def test_known_forms(body, form):
    assert reference_body(body) == form
    assert body_hash([body]) == hashlib.sha256(form).digest()


@given(BODIES)
@example(b"a \r \r\n")
@example(b"a\r\r\n\r\n")
@example(b"a\n\r\n\r\n")
@example(b" \r")
def test_the_body_hash_is_the_references(body):
    assert body_hash([body]) == reference_hash(body)


@given(BODIES, st.lists(st.integers(0, 60), max_size=10))
def test_blocks_of_any_size_make_no_difference(body, cuts):
    state = BodyHash()
    start = 0
    for cut in [*sorted(cuts), len(body)]:
        state.update(body[start:cut])
        start = max(start, cut)
    assert state.digest() == reference_hash(body)


@given(BODIES)
def test_one_octet_at_a_time(body):
    assert body_hash(body[i : i + 1] for i in range(len(body))) == reference_hash(body)


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"x", b"yy", b"\r\n\r\n"]), max_size=40).map(b"".join))
def test_dkimpy_agrees_on_lines_of_text(body):
    body += b"\r\n"
    assert dkim.canonicalization.Relaxed.canonicalize_body(body) == reference_body(body)


@pytest.mark.parametrize("piece", [b" ", b"\t", b"\r\n", b" \r\n", b"\r", b"\r\n ", b" \t", b"x ", b"\n"])
def test_hostile_bodies_are_linear_and_held_in_little_memory(piece):
    block = (piece * (1 << 18))[: 1 << 18]
    state = BodyHash()
    for _ in range(64):
        state.update(block)
        assert len(state._held) <= 2
    state.update(b"end")
    assert len(state.digest()) == 32


def test_blank_lines_are_kept_when_text_follows():
    body = b"\r\n" * 200_000 + b"x"
    assert body_hash([body[:77_777], body[77_777:]]) == hashlib.sha256(body + b"\r\n").digest()


def test_an_empty_body_in_no_block():
    assert body_hash([]) == EMPTY


@pytest.mark.parametrize(
    ("field", "form"),
    [
        (b"A: X\r\n", b"a:X\r\n"),
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"Subject:\r\n", b"subject:\r\n"),
        (b"Subject: \t\r\n \r\n", b"subject:\r\n"),
        (b"X:  a\t \tb : c \r\n", b"x:a b : c\r\n"),
        (b"X: a\x0bb\x0c \r\n", b"x:a\x0bb\x0c\r\n"),
    ],
)
def test_header_fields(field, form):
    assert header_field(field) == form


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n ", b"\r\n\t", b"x", b":", b"\xff"]), max_size=30).map(b"".join))
def test_dkimpy_agrees_on_header_fields(value):
    field = b"Name:" + value + b"\r\n"
    [(name, form)] = dkim.canonicalization.Relaxed.canonicalize_headers([(b"Name", value + b"\r\n")])
    assert header_field(field) == name + b":" + form
