"""Reads a peer's replies: bytes in, `Reply` values out; no sockets, no clock.

Replies are untrusted input, so the length of a line, the number of lines, and the length of a reply and of its text are
limited. Data that exceeds a limit or is not a reply raises `ReplyError`, and then the connection cannot be used again.
Text is made safe for logs and terminals here, so that no other code has to escape it.
"""

import functools
import re

from relay.smtp.reply import Reply

LINE_LIMIT = 2048
"""Most bytes of a line with its CRLF. RFC 5321 §4.5.3.1.5 allows 512, but some servers send more."""
REPLY_LIMIT = 64 * 1024
"""Most bytes of a whole reply."""
LINES_LIMIT = 200
"""Most lines of one reply."""
TEXT_LIMIT = 1000
"""Most characters of a reply's text; the rest is cut off."""

# RFC 2034 §4, RFC 3463 §2: class 2, 4 or 5, then subject and detail of up to three digits.
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)", re.ASCII)


class ReplyError(Exception):
    """The data is not a reply, or exceeds a limit. The peer is at fault."""


class ReplyReader:
    """Collects bytes until replies are complete. Lines may end in a bare LF, as some old servers send them."""

    __slots__ = ("_code", "_lines", "_rest", "_size", "broken")

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._code = b""
        self._size = 0
        self.broken: ReplyError | None = None
        """The error in the data after the last returned replies; nothing more can be read."""

    @property
    def pending(self) -> bool:
        """Whether received data is not, or not yet, a complete reply."""
        return bool(self._rest or self._lines or self.broken)

    def feed(self, data: bytes, most: int = 1000) -> list[Reply]:
        """Process bytes and return the replies that they complete. More than `most` replies are an error.

        Raises `ReplyError` if no reply precedes the error. Otherwise stores the error in `broken`, so that the peer's
        last replies (e.g. 421) are not lost.
        """
        replies: list[Reply] = []
        try:
            self._gather(data, replies, most)
        except ReplyError as error:
            self.broken = error
            if not replies:
                raise
        return replies

    def _gather(self, data: bytes, replies: list[Reply], most: int) -> None:
        if self._rest:
            data = self._rest + data
            self._rest = b""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if end - start >= LINE_LIMIT:
                raise ReplyError(f"a reply line of more than {LINE_LIMIT} octets")
            line = data[start:end]
            start = end + 1
            reply = single(line) if not self._lines and line[3:4] != b"-" else self._continue(line)
            if reply is None:
                continue
            if len(replies) == most:
                raise ReplyError("a reply to no command")
            replies.append(reply)
        if start < len(data):
            if len(data) - start >= LINE_LIMIT:
                raise ReplyError(f"a reply line of more than {LINE_LIMIT} octets")
            self._rest = data[start:]

    def _continue(self, line: bytes) -> Reply | None:
        """Process one line of a multi-line reply; return the reply if the line is the last."""
        code, last, text = _split(line)
        if not self._lines:
            self._code = code
            self._size = 0
        elif code != self._code:
            raise ReplyError("a reply whose lines have different codes")
        self._lines.append(text)
        self._size += len(line) + 1
        if len(self._lines) > LINES_LIMIT or self._size > REPLY_LIMIT:
            raise ReplyError(f"a reply of more than {LINES_LIMIT} lines or {REPLY_LIMIT} octets")
        if not last:
            return None
        lines, self._lines = self._lines, []
        return make_reply(int(code), b"\n".join(lines))


def make_reply(code: int, text: bytes) -> Reply:
    """Make a reply from its code and text (lines separated by LF). Extracts the enhanced code and escapes the text.

    An enhanced code counts only if its class equals the code's first digit (RFC 2034 §4); otherwise it is text.
    """
    lines = [_printable(line.rstrip(b" \t\r")) for line in text.split(b"\n")]
    enhanced = ""
    if (found := _ENHANCED.match(lines[0])) is not None and found[1] == str(code)[0]:
        enhanced = found[0]
        lines = [line[len(enhanced) :].lstrip(" ") if _begins(line, enhanced) else line for line in lines]
    return Reply(code, enhanced, "\n".join(lines)[:TEXT_LIMIT])


@functools.lru_cache(maxsize=256)
def single(line: bytes) -> Reply:
    """Parse a single-line reply. Peers repeat the same few lines, so results are cached (at most 512 KiB)."""
    code, _, text = _split(line)
    return make_reply(int(code), text)


def _split(line: bytes) -> tuple[bytes, bool, bytes]:
    """Split a line into code, whether it is the last line, and text (RFC 5321 §4.2.1; the text may be missing)."""
    if line.endswith(b"\r"):
        line = line[:-1]
    code, mark = line[:3], line[3:4]
    if len(code) != 3 or not code.isdigit() or not b"200" <= code <= b"599" or mark not in (b"", b" ", b"-"):
        raise ReplyError(f"not a reply: {_printable(line[:80])}")
    return code, mark != b"-", line[4:]


def _begins(line: str, enhanced: str) -> bool:
    """Whether the line repeats the enhanced code (as a word: 5.1.1 is not 5.1.10)."""
    return line.startswith(enhanced) and line[len(enhanced) : len(enhanced) + 1] in ("", " ")


def _printable(octets: bytes) -> str:
    """Decode to printable text: invalid UTF-8 is replaced, white space becomes spaces, the rest is escaped."""
    text = octets[: 4 * TEXT_LIMIT].decode("utf-8", "replace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() and c not in "\r\n" else _escape(c) for c in text)


def _escape(character: str) -> str:
    return (
        character.encode("ascii", "backslashreplace").decode("ascii")
        if ord(character) > 127
        else (f"\\x{ord(character):02x}")
    )
