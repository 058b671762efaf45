"""Encodes a message for DATA: dot-stuffing, and CRLF.CRLF at the end (RFC 5321 §4.5.2).

Works on blocks with `bytes.replace`, because a loop over lines is slower. A bare CR or LF is never sent, whatever the
queue contains: a receiver that treats it as a line end would execute commands from the message's text (SMTP smuggling).
Submission already refuses or repairs bare CR and LF, so one found here is an internal fault and stops the message.
"""

from relay.smtp.line_ends import dotted_line, only_crlf


class BareNewlineError(Exception):
    """The message has a CR or LF that is not part of a CRLF."""


class Stuffer:
    """Encodes a message block by block. The state between blocks is a pending CR and whether a line starts."""

    __slots__ = ("_carry", "_line_start")

    def __init__(self) -> None:
        self._line_start = True
        self._carry = b""

    def feed(self, block: bytes, *, checked: bool = False) -> bytes:
        """Encode the next block. A CR at its end is kept until the next call. Raises `BareNewlineError`.

        `checked`: the file's checksum proves that these bytes were checked when the message was accepted, so their line
        ends are not checked again.
        """
        if self._carry:
            block = self._carry + block
            self._carry = b""
        if block.endswith(b"\r"):
            self._carry = b"\r"
            block = block[:-1]
        if not block:
            return block
        if not checked and not only_crlf(block):
            raise BareNewlineError
        stuffed = block.replace(b"\r\n.", b"\r\n..") if dotted_line(block) >= 0 else block
        if self._line_start and block.startswith(b"."):
            stuffed = b"." + stuffed
        self._line_start = block.endswith(b"\n")
        return stuffed

    def end(self) -> bytes:
        """Return the end of the message: a CRLF if it is missing, and the dot. Raises `BareNewlineError`."""
        if self._carry:
            raise BareNewlineError
        return b".\r\n" if self._line_start else b"\r\n.\r\n"


def stuff(message: bytes) -> bytes:
    """Encode a whole message, including its end. Raises `BareNewlineError`."""
    stuffer = Stuffer()
    return stuffer.feed(message) + stuffer.end()
