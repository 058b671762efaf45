"""Checks of a message's bytes as they arrive: line ends, NUL, line lengths, size.

Receives unstuffed bytes from the DATA and BDAT readers in blocks of any size, and passes on only what may be stored.
After the first fault it drops and counts all further bytes, so that memory use stays constant until the real end of the
message. For speed, no Python loop runs over the lines. SECURITY: the bytes passed on contain no bare CR, bare LF or NUL
(RFC 5321 §2.3.8, §4.5.2).
"""

from relay.message.incoming import HeaderTooLargeError, Incoming
from relay.smtp.line_ends import only_crlf
from relay.smtp.server import texts
from relay.smtp.server.texts import Canned

_MAX_LINE = 998
"""Octets, excluding CRLF (RFC 5321 §4.5.3.1.6, RFC 5322 §2.1.1)."""


class Content:
    """Checks and collects one message."""

    __slots__ = ("_cr", "_limit", "_normalise", "_open", "dropped", "fault", "incoming", "size")

    def __init__(self, incoming: Incoming, limit: int, *, normalise: bool) -> None:
        self.incoming = incoming
        self._limit = limit
        self._normalise = normalise
        self._cr = False
        """The last byte was CR; whether it is bare depends on the next byte."""
        self._open = 0
        """Bytes received of the unfinished line."""
        self.size = 0
        """Bytes passed on."""
        self.dropped = 0
        """Bytes dropped after the fault."""
        self.fault: Canned | None = None
        """Why the message will be refused."""

    def write(self, piece: bytes) -> None:
        """Check and store bytes of the message; after a fault, only count them."""
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
        """Refuse the message early if the announced chunk of so many bytes exceeds the size limit (BDAT)."""
        if self.fault is None and self.size + octets > self._limit:
            self._fail(texts.TOO_BIG)

    def finish(self) -> Canned | None:
        """Finish the message. Returns None if it may be accepted, otherwise the refusal."""
        if self.fault is None and self._cr:
            self._cr = False
            if self._normalise:
                self._take(b"\r\n")
            else:
                self._fail(texts.BAD_LINE_ENDS)
        if self.fault is None and self._open:
            # Content sent with BDAT may lack the final line end, but DATA to the next server requires it
            # (RFC 3030 §3, RFC 5321 §4.1.1.4).
            self._take(b"\r\n")
        if self.fault is None:
            self.incoming.close()
        return self.fault

    def discard(self) -> None:
        """Discard the message because the transaction was aborted."""
        self.incoming.discard()

    def _take(self, piece: bytes) -> None:
        """Check and store bytes that do not end between CR and LF."""
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
            # Submission repairs long lines when the message is complete; here only the length of the open line matters.
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
        """Record the refusal, which is sent when the message has ended, and discard the stored bytes now."""
        self.fault = fault
        self.incoming.discard()


def open_line(piece: bytes, before: int) -> int:
    """Bytes in the unfinished line at the end of `piece`, or -1 if any line is too long.

    `before` is the number of bytes that the previous piece left unfinished. Each step jumps from one line end to the
    last line end within the legal line length, so a step covers up to 1,000 octets even if the lines are short.
    """
    start = -before
    while True:
        found = piece.rfind(b"\n", max(start, 0), start + _MAX_LINE + 2)
        if found < 0:
            rest = len(piece) - start
            return rest if rest <= _MAX_LINE else -1
        start = found + 1
