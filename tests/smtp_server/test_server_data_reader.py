"""The DATA and BDAT readers against slow ones that are obviously right, on every cut."""

import io
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.message.incoming import Incoming
from relay.smtp.server import texts
from relay.smtp.server.content import Content, open_line
from relay.smtp.server.data import DataReader

LIMIT = 5000


def reference_end(octets: bytes) -> tuple[list[bytes], int] | None:
    """The lines of the message, unstuffed, and the octets it takes with its end; None while it has not ended."""
    lines: list[bytes] = []
    at = 0
    while True:
        end = octets.find(b"\r\n", at)
        if end < 0:
            return None
        line = octets[at:end]
        at = end + 2
        if line == b".":
            return lines, at
        lines.append(line[1:] if line.startswith(b".") else line)


def reference_normalised(octets: bytes) -> bytes:
    out = b""
    at = 0
    while at < len(octets):
        if octets[at : at + 2] == b"\r\n":
            out += b"\r\n"
            at += 2
        elif octets[at : at + 1] in (b"\r", b"\n"):
            out += b"\r\n"
            at += 1
        else:
            out += octets[at : at + 1]
            at += 1
    return out


def reference_faults(octets: bytes, *, normalise: bool) -> set:
    """Every fault that the message has."""
    faults = set()
    if b"\0" in octets:
        faults.add(texts.HAS_NUL)
    fixed = reference_normalised(octets)
    if fixed != octets and not normalise:
        faults.add(texts.BAD_LINE_ENDS)
    if any(len(line) > 998 for line in fixed.split(b"\r\n")):
        faults.add(texts.BODY_LINE_TOO_LONG)
    if len(fixed if normalise else octets) > LIMIT:
        faults.add(texts.TOO_BIG)
    return faults


def collect(incoming: Incoming) -> bytes:
    assert incoming.header is not None
    return incoming.header + b"".join(incoming.body_blocks())


def with_blank_line(octets: bytes) -> bytes:
    """As `Incoming` gives it back: a message without a blank line is all header."""
    return octets if octets.startswith(b"\r\n") or b"\r\n\r\n" in octets else octets + b"\r\n"


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(octets) + 1) for place in places}), len(octets)]
    return [octets[a:b] for a, b in itertools.pairwise(edges) if a < b]


def read_data(blocks: list[bytes], *, normalise: bool) -> tuple[Content, int | None]:
    """Feed a reader; the content, and the octets taken up to the end (None: not ended)."""
    content = Content(Incoming(io.BytesIO), LIMIT, normalise=normalise)
    reader = DataReader(content)
    taken = 0
    for block in blocks:
        used = reader.feed(block)
        if used >= 0:
            content.finish()
            return content, taken + used
        taken += len(block)
    return content, None


pieces = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b".", b"..", b"a", b"\r\n.", b"\r\n.\r\n", b"\0", b"x" * 500, b"x" * 998, b"y" * 999]
    ),
    max_size=25,
).map(b"".join)
cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(body=pieces, places=cuts, normalise=st.booleans())
@example(body=b"", places=[1, 2, 3, 4], normalise=False)
@example(body=b".\r\n", places=[], normalise=False)
@example(body=b".\r\r\n", places=[1], normalise=True)
@example(body=b"\n.\r\n", places=[1, 2], normalise=True)
@example(body=b"..\r\na\n.b\r\n", places=[], normalise=True)
@example(body=b"..\r\na\r.b\r\n", places=[], normalise=True)
@example(body=b"a\n..b\r\n..", places=[3], normalise=True)
def test_data_is_read_like_the_reference(body, places, normalise):
    stream = body + b"\r\n.\r\nNOOP\r\n"
    expected = reference_end(stream)
    assert expected is not None
    lines, end = expected
    message = b"".join(line + b"\r\n" for line in lines)
    content, taken = read_data(cut(stream, places), normalise=normalise)
    assert taken == end
    faults = reference_faults(message, normalise=normalise)
    if faults:
        assert content.fault in faults
    else:
        assert content.fault is None
        assert collect(content.incoming) == with_blank_line(reference_normalised(message))


@given(body=pieces, normalise=st.booleans())
def test_one_octet_at_a_time(body, normalise):
    stream = body[:600] + b"\r\n.\r\n"
    expected = reference_end(stream)
    assert expected is not None
    content, taken = read_data([stream[i : i + 1] for i in range(len(stream))], normalise=normalise)
    whole, taken_whole = read_data([stream], normalise=normalise)
    assert taken == taken_whole == expected[1]
    assert (content.fault is None) == (whole.fault is None)
    if content.fault is None:
        assert collect(content.incoming) == collect(whole.incoming)


@given(body=pieces, places=cuts, normalise=st.booleans())
def test_long_lines_can_be_taken(body, places, normalise):
    """The message is the same, and only then marked when it has such a line."""
    content = Content(Incoming(io.BytesIO, take_long_lines=True), LIMIT, normalise=normalise)
    for piece in cut(body, places):
        content.write(piece)
    content.finish()
    faults = reference_faults(body, normalise=normalise)
    long = texts.BODY_LINE_TOO_LONG in faults
    faults.discard(texts.BODY_LINE_TOO_LONG)
    fixed = reference_normalised(body)
    if fixed and not fixed.endswith(b"\r\n"):
        fixed += b"\r\n"
    if len(fixed) > LIMIT:
        faults.add(texts.TOO_BIG)
    if faults:
        assert content.fault in faults
        return
    assert content.fault is None
    assert content.incoming.long_lines is long
    assert collect(content.incoming) == with_blank_line(fixed)


@given(chunks=st.lists(pieces, max_size=5), places=cuts, normalise=st.booleans())
def test_chunks_are_read_like_the_reference(chunks, places, normalise):
    octets = b"".join(chunks)
    content = Content(Incoming(io.BytesIO), LIMIT, normalise=normalise)
    for piece in cut(octets, places):
        content.write(piece)
    content.finish()
    faults = reference_faults(octets, normalise=normalise)
    if faults:
        assert content.fault in faults
        return
    fixed = reference_normalised(octets)
    if fixed and not fixed.endswith(b"\r\n"):
        fixed += b"\r\n"
    if len(fixed) > LIMIT:
        assert content.fault is texts.TOO_BIG
        return
    assert content.fault is None
    assert collect(content.incoming) == with_blank_line(fixed)


@given(body=pieces, places=cuts)
def test_nothing_bare_is_ever_passed_on(body, places):
    for normalise in (False, True):
        content, _ = read_data(cut(body + b"\r\n.\r\n", places), normalise=normalise)
        if content.fault is None:
            octets = collect(content.incoming)
            assert octets.count(b"\r") == octets.count(b"\n") == octets.count(b"\r\n")
            assert b"\0" not in octets


@given(
    lengths=st.lists(st.one_of(st.integers(0, 20), st.integers(990, 1005)), max_size=30),
    places=cuts,
)
def test_line_lengths_over_cuts(lengths, places):
    octets = b"".join(b"x" * length + b"\r\n" for length in lengths)
    left = 0
    for piece in cut(octets, [p for p in places if octets[p % (len(octets) + 1) - 1 : p % (len(octets) + 1)] != b"\r"]):
        left = open_line(piece, left)
        if left < 0:
            break
    assert (left < 0) == any(length > 998 for length in lengths)


@pytest.mark.parametrize("n", [510, 511, 512, 998, 4096, 8192, 65536, 262144])
def test_a_dot_at_any_boundary_is_no_end(n):
    content = Content(Incoming(io.BytesIO), 1 << 20, normalise=True)
    reader = DataReader(content)
    assert reader.feed(b"A" * n) == -1
    assert reader.feed(b".\r\n") == -1
    assert reader.feed(b".\r\nX") == 3


def test_memory_stays_flat_after_a_fault():
    incoming = Incoming(io.BytesIO)
    content = Content(incoming, LIMIT, normalise=False)
    reader = DataReader(content)
    for _ in range(100):
        assert reader.feed(b"x" * 10_000) == -1
    assert content.fault is texts.TOO_BIG
    assert incoming.size <= LIMIT
    assert content.dropped > 900_000
    assert reader.feed(b"\r\n.\r\n") == 5


def test_a_large_body_spills_and_comes_back():
    files = []

    def new_file():
        files.append(io.BytesIO())
        return files[-1]

    incoming = Incoming(new_file, spill_at=1000)
    content = Content(incoming, 1 << 20, normalise=False)
    reader = DataReader(content)
    line = b"z" * 98 + b"\r\n"
    for _ in range(50):
        reader.feed(line)
    reader.feed(b".\r\n")
    assert content.finish() is None
    # No blank line: all header, so nothing of it spills.
    assert not files
    incoming = Incoming(new_file, spill_at=1000)
    reader = DataReader(content := Content(incoming, 1 << 20, normalise=False))
    reader.feed(b"Subject: x\r\n\r\n" + line)
    for _ in range(50):
        reader.feed(line)
    reader.feed(b".\r\n")
    assert content.finish() is None
    assert len(files) == 1
    assert incoming.file is files[0]
    assert incoming.header == b"Subject: x\r\n\r\n"
    assert b"".join(incoming.body_blocks()) == line * 51
    assert incoming.body_size == 5100
    content.discard()
    assert files[0].closed


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
@pytest.mark.parametrize(
    ("octets", "header"),
    [
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n\r\n"),
        (b"\r\nbody\r\n\r\nx\r\n", b"\r\n"),
        (b"\r\n", b"\r\n"),
        (b"A: b\r\n\r\n", b"A: b\r\n\r\n"),
    ],
)
def test_header_and_body_part_at_the_blank_line(octets, header, block):
    incoming = Incoming(io.BytesIO)
    for at in range(0, len(octets), block):
        incoming.write(octets[at : at + block])
    incoming.close()
    assert incoming.header == header
    assert incoming.body() == octets[len(header) :]
    assert incoming.size == len(octets)
