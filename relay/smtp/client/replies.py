"""Read a peer's replies: octets in, `Reply` values out; no sockets, no clock.

Bounded in every direction, because what comes here was written by a stranger: a line, a reply, its lines and its text
each have a limit. What passes one, or is no reply at all, is a `ReplyError`, after which the connection is of no use.
Text is made safe to log and show here, once: nothing downstream has to think of terminals or forged log lines.
"""

import functools
import re

from relay.smtp.reply import Reply

LINE_LIMIT = 2048
"""Octets of a line with its CRLF; RFC 5321 §4.5.3.1.5 asks for 512, real servers pass that."""
REPLY_LIMIT = 64 * 1024
"""Octets of a whole reply."""
LINES_LIMIT = 200
"""Lines of one reply."""
TEXT_LIMIT = 1000
"""Characters of a reply's text; the rest is cut off."""

# RFC 2034 §4, RFC 3463 §2: class 2, 4 or 5, then subject and detail of up to three digits.
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)", re.ASCII)


class ReplyError(Exception):
    """These octets are no reply, or too much of one. The peer is wrong, not we."""


class ReplyReader:
    """Gathers octets until replies are whole. Lines may end in a bare LF, as some old servers have it."""

    __slots__ = ("_code", "_lines", "_rest", "_size", "broken")

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._code = b""
        self._size = 0
        self.broken: ReplyError | None = None
        """What follows the replies given last is none; nothing more can be read."""

    @property
    def pending(self) -> bool:
        """Something has come that is no whole reply (yet)."""
        return bool(self._rest or self._lines or self.broken)

    def feed(self, data: bytes, most: int = 1000) -> list[Reply]:
        """Take octets, give the replies they complete; more than `most` are an error: nobody asked for them.

        An error is raised when nothing good came before it; else it is left in `broken`, so that a peer's last words
        are heard.
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
        """One line of several; the reply when it was the last."""
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
    """A reply from its code and text (lines separated by LF): enhanced code taken out, text made printable.

    An enhanced code counts only when its class agrees with the code's first digit (RFC 2034 §4); else it is text.
    """
    lines = [_printable(line.rstrip(b" \t\r")) for line in text.split(b"\n")]
    enhanced = ""
    if (found := _ENHANCED.match(lines[0])) is not None and found[1] == str(code)[0]:
        enhanced = found[0]
        lines = [line[len(enhanced) :].lstrip(" ") if _begins(line, enhanced) else line for line in lines]
    return Reply(code, enhanced, "\n".join(lines)[:TEXT_LIMIT])


@functools.lru_cache(maxsize=256)
def single(line: bytes) -> Reply:
    """A reply of one line. Peers say the same few lines all day, so they are remembered (512 KiB at most)."""
    code, _, text = _split(line)
    return make_reply(int(code), text)


def _split(line: bytes) -> tuple[bytes, bool, bytes]:
    """Code, whether it is the last line, and text (RFC 5321 §4.2.1; a code alone is a line too)."""
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
    """Text without control characters: invalid UTF-8 replaced, blanks made spaces, all else that hides escaped."""
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
