"""The repair of long lines, judged by the standard library's `email` package, which shares nothing with it."""

import base64
import io
import quopri
import time
import tracemalloc
from email import message_from_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.message.headers import Header
from relay.message.incoming import Incoming, NoRoomError
from relay.message.long_lines import plan, repair_header, repaired

LINE = "<p>grüße = \t</p> ".encode() * 200
ASCII = b"<p>hello</p> " * 200


def repair(message: bytes, spill_at: int = 1 << 18) -> bytes:
    content = Incoming(io.BytesIO, spill_at=spill_at)
    content.write(message)
    content.close()
    assert content.header is not None
    header = Header.scan(content.header)
    found = plan(header, content.octets())
    content.replace_body(repaired(content.octets(), found.edits))
    repair_header(header, quote=found.quote)
    return header.to_bytes() + b"".join(content.body_blocks())


def longest(message: bytes) -> int:
    return max(map(len, message.split(b"\r\n")))


def texts(message: bytes) -> list[bytes]:
    parsed = message_from_bytes(message)
    return [part.get_payload(decode=True) for part in parsed.walk() if not part.is_multipart()]


def multipart(*parts: bytes, kind: bytes = b"mixed", before: bytes = b"", after: bytes = b"") -> bytes:
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    head = b"From: a@example.org\r\nMIME-Version: 1.0\r\nContent-Type: multipart/%b; boundary=b\r\n\r\n" % kind
    return head + before + body + b"--b--\r\n" + after


@pytest.fixture(params=[1 << 18, 10], ids=["in memory", "in a file"])
def both(request):
    return lambda message: repair(message, request.param)


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"Content-Type: text/html; charset=utf-8\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=x-unknown\r\nContent-Transfer-Encoding: 8bit\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\nContent-Transfer-Encoding:\r\n 7BIT (not so)\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: application/json\r\nContent-Transfer-Encoding: binary\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: text\r\n",
    ],
)
@pytest.mark.parametrize("end", [b"\r\n", b" \r\n", b"\r\nshort \r\n\r\n.\r\nFrom x\r\n"])
def test_a_message_of_one_part_becomes_quoted_printable(both, fields, end):
    message = b"From: a@example.org\r\n" + fields + b"Subject: x\r\n\r\n" + LINE + end
    got = both(message)
    assert longest(got) <= 76
    assert texts(got) == [LINE + end]
    parsed = message_from_bytes(got)
    assert parsed.get_all("Content-Transfer-Encoding") == ["quoted-printable"]
    assert parsed.get_all("MIME-Version") == ["1.0"]
    assert both(got) == got


def test_nothing_else_changes(both):
    html = b"Content-Type: text/html;\r\n\tcharset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nX-Y:  z\r\n\r\n"
    plain = b"Content-Type: text/plain\r\n\r\nshort \r\n\t\r\n..\r\n"
    message = multipart(plain, html + LINE, plain, before=b"This is MIME.\r\n", after=b"the end")
    got = both(message)
    assert longest(got) <= 76
    part = got[got.index(b"Content-Type: text/html") : got.index(b"\r\n--b\r\n" + plain, 300)]
    quoted = html.replace(b"8bit", b"quoted-printable")
    assert part.startswith(quoted)
    assert quopri.decodestring(part.removeprefix(quoted)) == LINE
    assert got.replace(part, html + LINE) == message


def test_parts_without_a_header_and_without_an_encoding(both):
    got = both(multipart(b"\r\n" + LINE, b"Content-Type: text/html\r\n\r\n" + LINE + b"\r\n"))
    assert texts(got) == [LINE, LINE + b"\r\n"]
    assert longest(got) <= 76


def test_base64_and_quoted_printable_are_wrapped(both):
    data = bytes(range(256)) * 20
    message = multipart(
        b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(data),
        b"Content-Transfer-Encoding: Quoted-Printable\r\n\r\n"
        + quopri.encodestring(LINE).replace(b"=\n", b"").replace(b"\n", b"\r\n"),
    )
    got = both(message)
    assert longest(got) <= 76
    assert texts(got) == texts(message) == [data, LINE]
    unwrapped = got.replace(b"=\r\n", b"")
    assert unwrapped.count(b"Content-") == message.count(b"Content-"), "no field was changed"


@pytest.mark.parametrize(
    "message",
    [
        multipart(b"\r\n" + LINE, kind=b"signed"),
        multipart(b"\r\n" + LINE, kind=b"encrypted"),
        multipart(
            b"Content-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n\r\n" + LINE + b"\r\n--c--", kind=b"signed"
        ),
        multipart(b"Content-Type: application/pgp-encrypted\r\n\r\n" + LINE),
        b"DKIM-Signature: v=1; d=example.net\r\n" + multipart(b"\r\n" + LINE),
        b"DKIM-Signature: v=1; d=example.net\r\nFrom: a@example.org\r\n\r\n" + LINE + b"\r\n",
        multipart(b"Content-Type: message/rfc822\r\n\r\nDKIM-Signature: v=1\r\nFrom: x@y\r\n\r\n" + LINE),
        multipart(b"Content-Transfer-Encoding: x-uuencode\r\n\r\n" + LINE),
        multipart(b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + LINE),
        multipart(b"Content-Type: text/html\r\nContent-Type: text/plain\r\n\r\n" + LINE),
        multipart(b"no header at all\r\n" + LINE),
        multipart(b"Content-Type: multipart/mixed\r\n\r\n" + LINE),
        multipart(b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; " + LINE),
        multipart(b"\r\nshort", before=LINE + b"\r\n"),
        multipart(b"\r\nshort", after=LINE),
        b"From: a@b\r\nContent-Type: multipart/mixed; boundary*0=x\r\n\r\n" + LINE + b"\r\n",
        b"From: a@b\r\nContent-Type: multipart/mixed; boundary=x; boundary=y\r\n\r\n--x\r\n\r\n" + LINE + b"\r\n",
    ],
    ids=range(17),
)
def test_elsewhere_lines_are_broken_as_postfix_breaks_them(both, message):
    got = both(message)
    assert longest(got) <= 998
    assert got.replace(b"\r\n ", b"") == message
    assert b"quoted-printable" not in got
    assert both(got) == got


def test_a_break_as_of_postfix_is_at_998_bytes_and_never_within_a_character(both):
    head = multipart(b"\r\n", kind=b"signed").removesuffix(b"\r\n--b--\r\n")
    got = both(head + b"x" * 2500 + b"\r\n--b--\r\n").removeprefix(head)
    assert got == b"x" * 998 + b"\r\n " + b"x" * 997 + b"\r\n " + b"x" * 505 + b"\r\n--b--\r\n"
    for offset in range(5):
        text = b"x" * offset + "😀".encode() * 1000
        for line in both(head + text + b"\r\n--b--\r\n").removeprefix(head).split(b"\r\n"):
            line.decode()
    both(head + b"\x80" * 3000 + b"\r\n--b--\r\n")


def test_a_message_within_a_part(both):
    inner = b"From: x@example.net\r\nSubject: " + b"word " * 300 + b"end\r\nContent-Type: text/html\r\n\r\n" + LINE
    got = both(multipart(b"Content-Type: message/rfc822\r\n\r\n" + inner))
    assert longest(got) <= 998
    assert texts(got) == [LINE]
    assert b"word end\r\nContent-Type: text/html\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-" in got
    got = both(multipart(inner, kind=b"digest"))
    assert longest(got) <= 998
    got = both(multipart(b"\r\n" + inner, kind=b"digest"))
    assert texts(got) == [LINE]


def test_long_fields_of_parts_are_folded(both):
    field = b"Content-Disposition: attachment;" + b" filename*%d=x;" * 300 % tuple(range(300)) + b" end\r\n"
    message = multipart(field + b"\r\nshort", field)
    got = both(message)
    assert longest(got) <= 998
    assert got.replace(b"\r\n filename", b" filename") == message


def test_long_boundaries_stay(both):
    boundary = b"x" * 1200
    head = b"From: a@example.org\r\nContent-Type: multipart/mixed;\r\n boundary=%b\r\n\r\n" % boundary
    message = head + b"--%b\r\n\r\n%b\r\n--%b--\r\n" % (boundary, LINE, boundary)
    got = both(message)
    assert texts(got) == [LINE]
    assert got.count(boundary) == 3


@pytest.mark.parametrize("parameter", [b"boundary=a=b", b'BOUNDARY="a=b"', b'x="; boundary=z"; boundary="a=b"'])
def test_boundaries_as_they_are_written(both, parameter):
    head = b"From: a@example.org\r\nContent-Type: multipart/mixed;\r\n %b\r\n\r\n" % parameter
    got = both(head + b"--a=b \t\r\n\r\n" + LINE + b"\r\n--a=bc\r\n--a=b--\r\n")
    assert texts(got) == [LINE + b"\r\n--a=bc"]


def test_too_deep_and_too_many(both):
    deep = b"From: a@example.org\r\n"
    for n in range(300):
        deep += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
    got = both(deep + b"\r\n" + LINE + b"\r\n")
    assert longest(got) <= 998
    assert got.replace(b"\r\n ", b"") == deep + b"\r\n" + LINE + b"\r\n"
    many = multipart(*[b"\r\nshort"] * 3000, b"\r\n" + LINE)
    assert both(many).replace(b"\r\n ", b"") == many
    nested = b"From: a@example.org\r\n" + b"Content-Type: message/rfc822\r\n\r\n" * 5000 + b"\r\n" + LINE
    assert longest(both(nested)) <= 998


@pytest.mark.parametrize(
    "filler",
    [
        b"--\r\n" * 2_000_000,
        b"--" + b"b" * 8_000_000,
        b"\r\n" * 4_000_000,
        b"--b\r\n" * 200_000,
        b"--b\r\n\r\n" * 200_000,
    ],
    ids=range(5),
)
def test_hostile_bodies_take_little_time(both, filler):
    message = multipart(b"\r\n" + filler + b"\r\n" + LINE + b"\r\n")
    began = time.process_time()
    assert longest(both(message)) <= 998
    assert time.process_time() - began < 20


def test_memory_does_not_grow_with_the_message():
    class Sink(io.BytesIO):
        size = 0

        def write(self, block):
            Sink.size += len(block)
            assert len(block) <= 1 << 20
            return len(block)

    class Source(io.BytesIO):
        """A file of 16 MiB in one line that takes no memory."""

        def read(self, size):
            at, self.at = self.at, min(self.at + size, 16 << 20)
            return (b"ab" * ((size + 2) // 2))[at % 2 : at % 2 + self.at - at]

        def seek(self, at):
            self.at = at
            return at

    content = Incoming(Sink)
    content.write(b"From: a@example.org\r\n\r\n")
    content.file, content._body_size = Source(), 16 << 20
    tracemalloc.start()
    header = Header.scan(content.header or b"")
    found = plan(header, content.octets())
    content.replace_body(repaired(content.octets(), found.edits))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.quote
    assert Sink.size > 16 << 20
    assert peak < 8 << 20


def test_a_disk_that_refuses_leaves_the_old_body():
    class Full(io.BytesIO):
        def write(self, block):
            raise OSError(28, "No space left on device")

    files = [io.BytesIO(), Full()]
    content = Incoming(lambda: files.pop(0), spill_at=10)
    content.write(b"From: a@example.org\r\n\r\n" + LINE)
    old = content.file
    with pytest.raises(NoRoomError):
        content.replace_body(iter([LINE]))
    assert content.file is old
    assert b"".join(content.body_blocks()) == LINE


pieces = st.lists(
    st.sampled_from(
        [
            b"--b",
            b"--b--",
            b"--c",
            b"\r\n",
            b"\r\n",
            b"\r\n\r\n",
            b"x" * 999,
            b"=3D" * 400,
            b" ",
            b"\t",
            b"a",
            b"\xc3\xa4" * 600,
            b".",
            b"Content-Type: multipart/mixed; boundary=c\r\n",
            b"Content-Transfer-Encoding: base64\r\n",
        ]
    ),
    max_size=30,
).map(b"".join)


@settings(deadline=None)
@given(pieces)
def test_in_memory_and_in_a_file_are_the_same(body):
    body = body.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    message = multipart(b"\r\n" + body)
    assert repair(message) == repair(message, 1)


@pytest.mark.parametrize(
    "field",
    [b"", b"Content-Transfer-Encoding: quoted-printable\r\n", b"Content-Transfer-Encoding: base64\r\n"],
    ids=["plain", "quoted", "base64"],
)
def test_no_line_becomes_a_boundary(both, field):
    for length in range(960, 1110):
        text = b"x" * length + b"--b"
        got = both(multipart(field + b"\r\n" + text))
        assert got.count(b"\r\n--b\r\n") + got.count(b"\r\n--b--\r\n") == 2
        if b"base64" in field:
            assert b"".join(got.split()).endswith(text + b"--b--"), "no base64 at all, so nothing can decode it"
        else:
            assert texts(got) == [text]
    got = both(multipart(field + b"\r\n" + b"--b" * 100_000))
    assert got.count(b"\r\n--b\r\n") + got.count(b"\r\n--b--\r\n") == 2
