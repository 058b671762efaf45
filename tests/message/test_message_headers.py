import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.headers import Header

PLAIN = (
    b"Received: from a by b;\r\n\tMon, 1 Jan 2024 00:00:00 +0000\r\n"
    b"From: a@example.org\r\nSUBJECT:x\r\nX-Fold: one\r\n two\r\n\tthree\r\n\r\n"
)


def test_fields_are_found_in_order_with_their_folds():
    header = Header.scan(PLAIN)
    assert header.problem is None
    assert header.names == [b"received", b"from", b"subject", b"x-fold"]
    assert header.fields[3] == b"X-Fold: one\r\n two\r\n\tthree\r\n"
    assert header.to_bytes() == PLAIN
    assert header.value(b"subject") == b"x"
    assert header.value(b"to") is None
    assert header.count(b"from") == 1


def test_edits_touch_nothing_else():
    header = Header.scan(PLAIN)
    assert header.remove(b"subject") == 1
    assert header.remove(b"absent") == 0
    header.append(b"date", b"Date: x\r\n")
    header.prepend(b"received", b"Received: y\r\n")
    assert header.to_bytes() == b"Received: y\r\n" + PLAIN.replace(b"SUBJECT:x\r\n", b"")[:-2] + b"Date: x\r\n\r\n"
    assert header.names == [b"received", b"received", b"from", b"x-fold", b"date"]


@pytest.mark.parametrize("block", [b"\r\n", b"A: b\r\n\r\n", b"A: b\r\n", b"A: b", b"A:\r\n\r\n", b"A: b\r\n c"])
def test_ends_of_a_block(block):
    header = Header.scan(block)
    assert header.problem is None
    expected = b"" if block == b"\r\n" else block.removesuffix(b"\r\n\r\n").removesuffix(b"\r\n") + b"\r\n"
    assert header.to_bytes() == expected + b"\r\n"


@pytest.mark.parametrize(
    ("block", "word"),
    [
        (b"From: a\r\nno colon here\r\n\r\n", "line 2"),
        (b"From: a\r\n folded\r\nno colon\r\n\r\n", "line 3"),
        (b": value\r\n\r\n", "line 1"),
        (b"From : a@b\r\n\r\n", "space before its colon"),
        (b"From\t: a@b\r\n\r\n", "space before its colon"),
        (b"Two Words: a@b\r\n\r\n", "not allowed"),
        (b"Fr\xc3\xb6m: a\r\n\r\n", "not allowed"),
        (b"From a@b Mon Jan 1 00:00:00 2024\r\nTo: b\r\n\r\n", "not allowed"),
        (b" folded: first\r\nFrom: a\r\n\r\n", "indented"),
        (b"From: a\0b\r\n\r\n", "NUL"),
        (b"From: a\nBcc: b\r\n\r\n", "CR or LF"),
        (b"From: a\rBcc: b\r\n\r\n", "CR or LF"),
        (b"From: a\r\r\nBcc: b\r\n\r\n", "CR or LF"),
    ],
)
def test_malformed_lines_are_named(block, word):
    problem = Header.scan(block).problem
    assert problem is not None
    assert word in problem


def test_reading_stops_at_the_limit():
    block = b"A: b\r\n" * 20_000 + b"\r\n"
    header = Header.scan(block, 1000)
    assert header.overflow
    assert len(header.fields) == len(header.names) == 1000
    assert not Header.scan(b"A: b\r\n" * 1000 + b"\r\n", 1000).overflow


def test_many_folds_are_one_field():
    block = b"A: b\r\n" + b" \r\n" * 80_000 + b"B: c\r\n\r\n"
    header = Header.scan(block)
    assert header.names == [b"a", b"b"]
    assert header.to_bytes() == block


@given(st.binary(max_size=200) | st.text("AB: \t\r\n\0é", max_size=60).map(str.encode))
def test_any_octets_are_read_and_good_ones_are_kept(block):
    header = Header.scan(block)
    assert len(header.names) == len(header.fields)
    if header.problem is None and not block.startswith(b"\r\n"):
        head, blank, _ = block.partition(b"\r\n\r\n")
        kept = head + b"\r\n" if blank or not head.endswith(b"\r\n") else head
        assert header.to_bytes() == ((kept + b"\r\n") if block else b"\r\n")


_LINE = st.sampled_from(
    [b"A: b", b"SUBJECT:x", b" fold", b"\tfold", b"A", b":x", b"A : b", b"", b"a\rb: c", b"\xe9: x", b"A:\0"]
)
_BREAK = st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\r\n"])


@given(
    st.lists(st.tuples(_LINE, _BREAK), max_size=8).map(lambda lines: b"".join(a + b for a, b in lines)),
    st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
    st.integers(1, 4),
)
def test_good_blocks_are_read_in_one_go_as_they_are_by_line(lines, end, limit):
    quick, slow = Header(), Header()
    slow._take_by_line(lines + end, limit)
    if quick._take_well_formed(lines + end, limit):
        assert (slow.problem, slow.overflow) == (None, False)
        assert (quick.names, quick.fields) == (slow.names, slow.fields)
    else:
        assert (quick.names, quick.fields) == ([], [])


def test_ordinary_blocks_are_read_in_one_go():
    assert Header()._take_well_formed(PLAIN, 1000)
    assert not Header()._take_well_formed(PLAIN, 3)
