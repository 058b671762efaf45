"""The relaxed canonical forms (RFC 6376 §3.4.2 and §3.4.4).

Only `relaxed` is implemented, because a `simple` signature breaks when a relay re-folds a line. The code uses
whole-block `bytes` operations without regular expressions and takes linear time even on a body of blanks. A body is
passed in blocks of any size; memory stays within a few blocks. `tests/message/` has a slow, simple reference.
"""

import hashlib
from collections.abc import Iterable

_FLUSH = 1 << 15
"""CRLFs hashed at once when a long run of blank lines turns out not to be the end."""


def header_field(field: bytes) -> bytes:
    """Return one field (with folds and final CRLF) in relaxed form, with its CRLF."""
    name, _, value = field.partition(b":")
    return b"%b:%b\r\n" % (name.rstrip(b" \t").lower(), relaxed_value(value))


def relaxed_value(value: bytes) -> bytes:
    """Return a field's value unfolded, with runs of blanks as one space and no blanks at its ends."""
    value = value.replace(b"\r\n", b"").replace(b"\t", b" ")
    if b"  " in value:
        value = b" ".join([word for word in value.split(b" ") if word])
    return value.strip(b" ")


class BodyHash:
    """SHA-256 over the relaxed body, which is passed in blocks."""

    __slots__ = ("_blank_lines", "_hash", "_held", "_wrote")

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._held = b""
        """Bytes that depend on the next byte: a blank, a CR, or a blank and a CR."""
        self._blank_lines = 0
        """CRLFs held back, which are dropped if the body ends here. Includes the one that ends the last line."""
        self._wrote = False

    def update(self, block: bytes) -> None:
        """Add a block of the body."""
        data = self._held + block
        core = data[:-1] if data[-1:] == b"\r" else data
        cut = core.rstrip(b" \t")
        self._held = (b" " if len(cut) < len(core) else b"") + (b"\r" if len(core) < len(data) else b"")
        self._emit(_relaxed_lines(cut))

    def digest(self) -> bytes:
        """Return the hash of all blocks. Call it once."""
        # A blank at the end of the body is at the end of a line without CRLF, and ignored like every trailing blank.
        if self._held.endswith(b"\r"):
            self._emit(self._held)
        if self._wrote:
            self._hash.update(b"\r\n")
        return self._hash.digest()

    def _emit(self, lines: bytes) -> None:
        """Hash canonical bytes, but hold back the CRLFs at their end."""
        length = len(lines) - _crlf_tail(lines)
        ends = (len(lines) - length) // 2
        if not length:
            self._blank_lines += ends
            return
        while self._blank_lines:
            count = min(self._blank_lines, _FLUSH)
            self._hash.update(b"\r\n" * count)
            self._blank_lines -= count
        self._hash.update(lines[:length] if ends else lines)
        self._blank_lines = ends
        self._wrote = True


def body_hash(blocks: Iterable[bytes]) -> bytes:
    """Return the SHA-256 of the relaxed body, which is passed in blocks."""
    state = BodyHash()
    for block in blocks:
        state.update(block)
    return state.digest()


def _relaxed_lines(data: bytes) -> bytes:
    """Collapse blanks and remove them at line ends. `data` must not end with a blank."""
    if b"\t" in data:
        data = data.replace(b"\t", b" ")
    while b"  " in data:
        # Each pass halves the longest run, so there are about log2(run) passes.
        data = data.replace(b"  ", b" ")
    return data.replace(b" \r\n", b"\r\n")


def _crlf_tail(data: bytes) -> int:
    """Return the length in bytes of the CRLFs at the end of `data`."""
    if not data.endswith(b"\r\n"):
        return 0
    tail = len(data) - len(data.rstrip(b"\r\n"))
    if data.endswith(b"\r\n" * (tail // 2)):
        return tail - tail % 2
    # The tail contains bare CRs or LFs, so count pairs from the end.
    position = len(data)
    while data.endswith(b"\r\n", 0, position):
        position -= 2
    return len(data) - position
