"""A message's octets as they follow DATA: dots stuffed, one CRLF.CRLF at the end (RFC 5321 §4.5.2).

Works on blocks with `bytes.replace`, never by line. A bare CR or LF is never let out, whatever lies in the queue: a
receiver that takes one for a line end would read commands of the message's author (SMTP smuggling). Accepting already
refuses or mends them, so finding one here is a fault of ours and stops the message.
"""

from relay.smtp.line_ends import dotted_line, only_crlf


class BareNewlineError(Exception):
    """The message has a CR or LF that is not part of a CRLF."""


class Stuffer:
    """Blocks in, blocks for the wire out; the state between blocks is two facts."""

    __slots__ = ("_carry", "_line_start")

    def __init__(self) -> None:
        self._line_start = True
        self._carry = b""

    def feed(self, block: bytes, *, checked: bool = False) -> bytes:
        """The next block. A CR at its end waits for what follows.

        `checked`: these octets are proven to be those that were checked when the message was accepted (by the checksum
        of their file), so their line ends are not looked at once more.
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
        """What closes the message: the CRLF it may lack, and the dot."""
        if self._carry:
            raise BareNewlineError
        return b".\r\n" if self._line_start else b"\r\n.\r\n"


def stuff(message: bytes) -> bytes:
    """A whole message with its end."""
    stuffer = Stuffer()
    return stuffer.feed(message) + stuffer.end()
