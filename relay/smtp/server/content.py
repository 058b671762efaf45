"""The octets of a message, checked as they come: line ends, NUL, line lengths, size.

Gets unstuffed octets from the DATA and BDAT readers in blocks of any cut, and passes on only what may be stored; after
the first fault everything else is dropped and counted, so that memory stays flat until the real end of the message.
No loop over lines in Python. SECURITY: what is passed on holds no bare CR, bare LF or NUL (RFC 5321 §2.3.8, §4.5.2).
"""

from relay.message.incoming import HeaderTooLargeError, Incoming
from relay.smtp.line_ends import only_crlf
from relay.smtp.server import texts
from relay.smtp.server.texts import Canned

_MAX_LINE = 998
"""Octets without CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1)."""


class Content:
    """Checks and collects one message."""

    __slots__ = ("_cr", "_limit", "_normalise", "_open", "dropped", "fault", "incoming", "size")

    def __init__(self, incoming: Incoming, limit: int, *, normalise: bool) -> None:
        self.incoming = incoming
        self._limit = limit
        self._normalise = normalise
        self._cr = False
        """The last octet was CR: whether it is bare depends on the next."""
        self._open = 0
        """Octets so far of the line that is not ended yet."""
        self.size = 0
        """Octets passed on."""
        self.dropped = 0
        """Octets after the fault."""
        self.fault: Canned | None = None
        """Why the message will be refused."""

    def write(self, piece: bytes) -> None:
        """Take octets."""
        if self.fault is not None:
            self.dropped += len(piece)
            return
        if self._cr:
            piece = b"\r" + piece
            self._cr = False
        if piece.endswith(b"\r"):
            piece = piece[:-1]
            self._cr = True
        if piece:
            self._take(piece)

    def expect(self, octets: int) -> None:
        """So many octets are announced: refuse now what will not fit (BDAT)."""
        if self.fault is None and self.size + octets > self._limit:
            self._fail(texts.TOO_BIG)

    def finish(self) -> Canned | None:
        """The message has ended: None when it may be accepted, else why not."""
        if self.fault is None and self._cr:
            self._cr = False
            if self._normalise:
                self._take(b"\r\n")
            else:
                self._fail(texts.BAD_LINE_ENDS)
        if self.fault is None and self._open:
            # BDAT need not end with a line end, DATA to the next server must (RFC 3030 §3, RFC 5321 §4.1.1.4).
            self._take(b"\r\n")
        if self.fault is None:
            self.incoming.close()
        return self.fault

    def discard(self) -> None:
        """The message is broken off."""
        self.incoming.discard()

    def _take(self, piece: bytes) -> None:
        """Check and store octets that do not end within a CRLF."""
        if self.size + len(piece) > self._limit:
            self._fail(texts.TOO_BIG)
            return
        if b"\0" in piece:
            self._fail(texts.HAS_NUL)
            return
        if not only_crlf(piece):
            if not self._normalise:
                self._fail(texts.BAD_LINE_ENDS)
                return
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        self._open = open_line(piece, self._open)
        if self._open < 0:
            if not self.incoming.take_long_lines:
                self._fail(texts.BODY_LINE_TOO_LONG)
                return
            # The submission repairs it when the message is complete; here it only matters whether a line is open.
            self.incoming.long_lines = True
            self._open = len(piece) - piece.rfind(b"\n") - 1
        self.size += len(piece)
        try:
            self.incoming.write(piece)
        except HeaderTooLargeError:
            self._fail(texts.HEADER_TOO_BIG)
        except OSError:
            self._fail(texts.DISK_REFUSES)

    def _fail(self, fault: Canned) -> None:
        """Refuse the message when it has ended; its octets are let go now."""
        self.fault = fault
        self.incoming.discard()


def open_line(piece: bytes, before: int) -> int:
    """Octets of the line that `piece` leaves open, or -1 when a line of it is too long.

    `before` is what the previous piece left open. Hops from line end to the last line end that a line of legal length
    could have, so a hop covers up to 1,000 octets however short the lines are.
    """
    start = -before
    while True:
        found = piece.rfind(b"\n", max(start, 0), start + _MAX_LINE + 2)
        if found < 0:
            rest = len(piece) - start
            return rest if rest <= _MAX_LINE else -1
        start = found + 1
