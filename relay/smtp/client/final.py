"""Reads the reply to the final dot, which may be malformed: bytes in, one `Reply` out; no sockets.

If an accepted message were treated as refused, it would be delivered again at each attempt, so this reader is lenient
where `relay.smtp.client.replies` is strict. That is safe only here: exactly one reply follows the final dot (RFC 5321
§4.1.1.4), so it cannot be matched with a later command, provided that the connection is closed afterwards (`clean` says
whether it may be kept).

- A line of three digits that starts with 2, 4 or 5, followed by a space or the line's end, is the answer.
- A continuation line (`250-…`) is also the answer if no last line follows in time, before the peer closes the
  connection, or within the size limits. The same applies to a line that has blanks or control characters before its
  code, or another character after it.
- If the first digits of a last line and its continuation lines differ, they contradict each other: no answer.
- All other lines are skipped.
"""

import re

from relay.smtp.client.replies import LINE_LIMIT, LINES_LIMIT, REPLY_LIMIT, ReplyError, make_reply, single
from relay.smtp.reply import Reply

_PLAIN = re.compile(rb"([245][0-9][0-9])(?: |$)")
_GOES_ON = re.compile(rb"([245][0-9][0-9])-")
_ODD = re.compile(rb"[\x00-\x20\x7f\xa0\xbb\xbf\xc2\xef]*([245][0-9][0-9])(?:$|[\x00-\x20\x7f:;,_=/-]+|(?=[Oo][Kk]))")
"""The bytes above 127 are those of a byte order mark and a no-break space in UTF-8. Neither `250ms` nor `212.8.1.2` is
read as a reply: treating a refusal as a delivery loses mail, which is worse than a duplicate."""


class FinalReader:
    """Reads the data after the final dot. Only needed if that is not a single plain line, see `plain`."""

    __slots__ = ("_code", "_lines", "_odd", "_rest", "_seen", "_skipping", "clean")

    def __init__(self) -> None:
        self._rest = b""
        self._seen = 0
        """Bytes received so far."""
        self._skipping = False
        """Within an overlong line whose beginning was already evaluated."""
        self._code = b""
        """The code of the continuation lines."""
        self._lines: list[bytes] = []
        """The texts of the continuation lines."""
        self._odd: tuple[bytes, bytes] | None = None
        """Code and text of the first malformed line that can be read as a reply."""
        self.clean = True
        """Whether only one well-formed reply was received."""

    def feed(self, data: bytes) -> Reply | None:
        """Process received bytes; return the answer once it is certain.

        Raises `ReplyError` if lines contradict each other, or if the size limits are exceeded without an answer.
        """
        data = self._rest + data
        self._seen += len(data) - len(self._rest)
        self._rest = b""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start : min(end, start + LINE_LIMIT)]
            self.clean &= end - start < LINE_LIMIT
            start = end + 1
            if self._skipping:
                self._skipping = False
                continue
            reply = self._line(line)
            if reply is not None:
                self.clean &= start == len(data)
                return reply
        return self._keep(data[start:])

    def best(self) -> Reply | None:
        """Return the best answer from the data so far, when no more data will come; None: there is no answer."""
        self.clean = False
        rest, self._rest = self._rest, b""
        try:
            last = self._line(rest) if rest else None
        except ReplyError:
            return None
        if last is not None:
            return last
        if self._lines:
            return make_reply(int(self._code), b"\n".join(self._lines))
        return None if self._odd is None else make_reply(int(self._odd[0]), self._odd[1])

    @property
    def hopeful(self) -> bool:
        """Whether an answer has begun, so that the rest of it needs only a short wait."""
        return bool(self._lines or self._odd or _ODD.match(self._rest[:LINE_LIMIT]))

    def _keep(self, rest: bytes) -> Reply | None:
        """Keep data after the last line end. Evaluate it early if the line or the whole reply is too long."""
        if len(rest) >= LINE_LIMIT and not self._skipping:
            self.clean = False
            self._skipping = True
            reply = self._line(rest[:LINE_LIMIT])
            if reply is not None:
                return reply
        self._rest = b"" if self._skipping else rest
        if self._seen <= REPLY_LIMIT and len(self._lines) <= LINES_LIMIT:
            return None
        if (reply := self.best()) is None:
            raise ReplyError(f"no reply within {REPLY_LIMIT} octets")
        return reply

    def _line(self, line: bytes) -> Reply | None:
        """Process one line without its LF; return the answer if the line completes it."""
        line = line.removesuffix(b"\r")
        if (found := _PLAIN.match(line)) is not None:
            return self._last(found[1], line[found.end() :])
        if (found := _GOES_ON.match(line)) is not None:
            if self._lines and found[1][0] != self._code[0]:
                raise ReplyError("a reply whose lines have different codes")
            self._code = found[1]
            self._lines.append(line[found.end() :])
            return None
        self.clean = False
        if self._odd is None and (found := _ODD.match(line)) is not None:
            self._odd = found[1], line[found.end() :]
        return None

    def _last(self, code: bytes, text: bytes) -> Reply:
        if self._lines and code[0] != self._code[0]:
            raise ReplyError("a reply whose lines have different codes")
        return make_reply(int(code), b"\n".join((*self._lines, text)))


def plain(data: bytes) -> Reply | None:
    """Return the reply if `data` is one well-formed line, which is nearly always the case; else None."""
    if data.find(b"\n") == len(data) - 1 < LINE_LIMIT and _PLAIN.match(data) is not None:
        return single(data[:-1])
    return None
