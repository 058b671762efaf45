"""Content transfer encodings for long lines: shortens the lines of each kind of content to at most 998 bytes.

Quoted-printable (RFC 2045 §6.7) is encoded here because `binascii.b2a_qp` ends some lines two bytes too late and
writes bare LFs for content without line ends. Everything works on parts of `Octets` in blocks, so a body of one line of
50 MiB takes no more memory than any other.
"""

import re
from collections.abc import Callable, Iterator

from relay.message.fold import LONGEST
from relay.message.octets import BLOCK, Octets, copied

_WIDTH = 76
"""Bytes of an encoded line (RFC 2045 §6.7 rule 5, §6.8)."""
_SLICE = 1 << 16
_UNSAFE = re.compile(rb"[^\t\r\n -<>-~]+")
# Matches at most 73 bytes, which leaves room for the `=` of the soft line break and for `_guarded`, and never splits
# `=XX`. The second alternative is for content that only claims to be quoted-printable.
_SOFT = re.compile(rb"(?=.{74})(?:.{71,73}(?<!=)(?<!=.)|.{73})", re.DOTALL)


def long_lines(octets: Octets, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the lines of a part that are too long, as (start, end without CRLF).

    From each line end, it jumps to the last line end within the legal length, like the check on receipt.
    """
    while stop - start > LONGEST:
        found = octets.rfind(b"\n", start, min(start + LONGEST + 2, stop))
        if found >= 0:
            start = found + 1
            continue
        end = octets.find(b"\r\n", start, stop)
        if end < 0:
            end = stop
        if end - start > LONGEST:
            yield start, end
        start = end + 2


def quoted(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    """Yield the part as quoted-printable; its line ends are kept."""
    whole = True
    while start < stop:
        end = min(start + _SLICE, stop)
        within, whole = not whole, True
        if end < stop:
            found = octets.rfind(b"\r\n", start, end)
            whole = found >= 0
            if whole:
                end = found + 2
            elif octets[end - 1 : end] == b"\r":
                end -= 1
        encoded = _quote(octets[start:end], whole=whole)
        yield _guarded(encoded) if within else encoded
        start = end


def _quote(piece: bytes, *, whole: bool) -> bytes:
    """Encode lines. If the piece is not `whole`, its last line continues in the next piece."""
    lines = _UNSAFE.sub(_escape, piece).split(b"\r\n")
    last = len(lines) - 1
    for n, line in enumerate(lines):
        if line[-1:] in (b" ", b"\t") and (whole or n < last):
            # White space at the end of a line may be lost in transport (rule 3).
            line = line[:-1] + (b"=20" if line[-1:] == b" " else b"=09")  # noqa: PLW2901 - the line that is written
        if len(line) > _WIDTH or (not whole and n == last):
            line = _wrapped(line)  # noqa: PLW2901 - as above
        lines[n] = line
    encoded = b"\r\n".join(lines)
    return encoded if whole else encoded + b"=\r\n"


def _escape(match: re.Match[bytes]) -> bytes:
    return b"=" + match[0].hex("=").upper().encode()


def _guarded(text: bytes) -> bytes:
    """Escape text that was in the middle of a line and is now at the start of one.

    SECURITY: it must not become a boundary of the message.
    """
    return b"=2D" + text[1:] if text.startswith(b"--") else text


def _wrapped(line: bytes) -> bytes:
    """Return a line with soft line breaks, each followed by `_guarded` text."""
    return _SOFT.sub(_soft, line).replace(b"=\r\n--", b"=\r\n=2D-")


def _soft(match: re.Match[bytes]) -> bytes:
    return match[0] + b"=\r\n"


def _each_long_line(
    octets: Octets, start: int, stop: int, cut: Callable[[Octets, int, int], Iterator[bytes]]
) -> Iterator[bytes]:
    """Yield the part with its long lines cut and all other lines unchanged."""
    done = start
    for begin, end in long_lines(octets, start, stop):
        yield from copied(octets, done, begin)
        yield from cut(octets, begin, end)
        done = end
    yield from copied(octets, done, stop)


def rewrapped_quoted(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    """Wrap a quoted-printable part: long lines get soft line breaks, which decode to nothing."""
    return _each_long_line(octets, start, stop, _cut_quoted)


def _cut_quoted(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    at = start
    while at < stop:
        end = min(at + _SLICE, stop)
        if end < stop:
            escape = octets[end - 2 : end].find(b"=")
            end -= 2 - escape if escape >= 0 else 0
        text = _wrapped(octets[at:end])
        yield (_guarded(text) if at > start else text) + (b"=\r\n" if end < stop else b"")
        at = end


def rewrapped_base64(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    """Wrap a base64 part: long lines are cut to 76 bytes; decoders ignore line ends (RFC 2045 §6.8)."""
    return _each_long_line(octets, start, stop, _cut_base64)


def _cut_base64(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    step = BLOCK // _WIDTH * _WIDTH
    for begin in range(start, stop, step):
        text = octets[begin : min(begin + step, stop)]
        lines = b"\r\n".join([text[at : at + _WIDTH] for at in range(0, len(text), _WIDTH)])
        if begin > start:
            lines = b"\r\n" + lines
        # Hyphens are not base64 characters, and must not make the line a boundary.
        yield lines.replace(b"\r\n--", b"\r\n --")


def broken(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    """Yield the part with CRLF and a space inserted into its long lines, as Postfix does with every long line.

    See `smtp_line_length_limit` in postconf(5). The space keeps the rest of a header-like line a continuation line.
    """
    return _each_long_line(octets, start, stop, _cut_plain)


def _cut_plain(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    room, space = LONGEST, b""
    while stop - start > room:
        end = start + room
        # Do not split a UTF-8 character, which would be lost. Postfix counts only bytes.
        tail = octets[end - 3 : end + 1]
        back = 0
        while back < 3 and 0x80 <= tail[3 - back] < 0xC0:
            back += 1
        end -= back if tail[3 - back] >= 0xC0 else 0
        yield space + octets[start:end] + b"\r\n"
        start, room, space = end, LONGEST - 1, b" "
    yield space + octets[start:stop]
