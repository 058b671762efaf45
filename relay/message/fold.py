"""Folds header lines that are longer than 998 bytes (RFC 5322 §2.1.1, §2.2.3).

A line is only broken before white space that is already there, so unfolding gives the value that was sent, byte for
byte. A word without white space is never broken: it would become two words. Such a line stays longer than the limit.
"""

import re

LONGEST = 998
"""Bytes of a line without its CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1)."""

_BREAK = re.compile(rb"[ \t](?=[^ \t])")
_NAME = re.compile(rb"[^ \t:]++:")
_WORD = re.compile(rb"[^ \t]")
_RUN = re.compile(rb"[ \t]{2,}+")
_LOOSE = re.compile(rb"[ \t]{2}|[ \t]$")


def fold(block: bytes) -> bytes:
    """Fold the long lines of a header field or of a whole header block; all other lines stay as they are."""
    if len(block) <= LONGEST:
        return block
    lines = block.split(b"\r\n")
    if max(map(len, lines)) <= LONGEST:
        return block
    return b"\r\n".join([_folded(line) if len(line) > LONGEST else line for line in lines])


def _folded(line: bytes) -> bytes:
    """Fold a long line into lines within the limit, as far as white space allows."""
    pieces = _pieces(line)
    if any(len(piece) > LONGEST and _LOOSE.search(piece) for piece in pieces):
        # A run of white space is so long that a fold before it is not enough, and a fold within or after it would make
        # a line of only white space, which many programs take for the end of the header. A run is equivalent to one
        # space (RFC 5322 §3.2.2), and white space at the end of a line has no meaning, so both can be shortened.
        pieces = _pieces(_RUN.sub(b" ", line.rstrip(b" \t")))
    return b"\r\n".join(pieces)


def _pieces(line: bytes) -> list[bytes]:
    first = _WORD.search(line)
    # The earliest place for a fold is after the name of the field, or after the first word of a continuation line.
    named = _NAME.match(line)
    after_name = named.end() if named is not None else 0
    begin = max(after_name, first.start() if first is not None else 0)
    places = [match.start() for match in _BREAK.finditer(line, begin)]
    places.append(len(line))
    pieces: list[bytes] = []
    start, last = 0, 0
    for place in places:
        # "Name:" alone on a line is legal but confuses some programs, so it is used only if that fold is enough.
        useless = start == 0 and place - last > LONGEST and not line[after_name:last].strip(b" \t")
        if place - start > LONGEST and last > start and not useless:
            pieces.append(line[start:last])
            start = last
        last = place
    pieces.append(line[start:])
    return pieces
