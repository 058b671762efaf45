"""The quick look at line ends says what an obviously right one says, for any octets."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.smtp.line_ends import dotted_line, only_crlf

BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"", b"x", b"\0", b"\x85", b"\xff", b"\x0b", b"abc."])).map(
        b"".join
    )
)
@example(b"")
@example(b"\r\n\r")
@example(b"\n\r\n\r")
def test_any_mixture(octets):
    assert only_crlf(octets) == (BARE.search(octets) is None)


@given(st.binary())
def test_any_octets(octets):
    assert only_crlf(octets) == (BARE.search(octets) is None)


@pytest.mark.parametrize("bare", [b"\r", b"\n", b"\n\r", b"\r\r\n", b"\n\n"])
@pytest.mark.parametrize("lines", [0, 1, 2000])
def test_one_among_many(bare, lines):
    line = b"x" * 70 + b"\r\n"
    assert only_crlf(line * lines)
    assert not only_crlf(line * lines + b"a" + bare + b"b" + line * lines)
    assert not only_crlf(bare + line * lines)
    assert not only_crlf(line * lines + b"a" + bare)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"..", b".", b"x", b"\r\n.", b"a.b." * 60])).map(b"".join))
@example(b".\r\n.")
@example(b"." * 50 + b"\r\n.")
@example(b"." * 49 + b"\r\n.")
@example(b"." * 48 + b"\r\n.")
def test_a_dotted_line_is_found_where_it_is(octets):
    for piece in (octets, octets + b"x" * 9_000, b"x" * 9_000 + octets):
        assert dotted_line(piece) == piece.find(b"\r\n.")
