"""Read the reply to a message's end, which a receiver may have garbled: bytes in, one `Reply` out; no sockets.

A message that was handed over and is taken for refused is delivered again at each attempt, so this reader is forgiving
where `relay.smtp.client.replies` is strict. That is safe here and nowhere else: after the final dot exactly one reply
can come (RFC 5321 §4.1.1.4), so nothing can slip against a later command, provided that the connection is closed
afterwards (`clean` says whether it may be kept).

- A line of three digits whose first is 2, 4 or 5, followed by a space or the line's end, is the answer.
- A line that goes on (`250-…`) is the answer as well if no last line follows in time, before the peer hangs up, or
  within the bounds. So is a line that is one after blanks and control characters are taken off its beginning, or that
  has another character after its code.
- Lines that go on, and a last line whose first digit differs from theirs, contradict each other: no answer.
- Anything else is skipped.
"""

import re

from relay.smtp.client.replies import LINE_LIMIT, LINES_LIMIT, REPLY_LIMIT, ReplyError, make_reply, single
from relay.smtp.reply import Reply

_PLAIN = re.compile(rb"([245][0-9][0-9])(?: |$)")
_GOES_ON = re.compile(rb"([245][0-9][0-9])-")
_ODD = re.compile(rb"[\x00-\x20\x7f\xa0\xbb\xbf\xc2\xef]*([245][0-9][0-9])(?:$|[\x00-\x20\x7f:;,_=/-]+|(?=[Oo][Kk]))")
"""The bytes above 127 are those of a byte order mark and of a no-break space in UTF-8. Neither `250ms` nor `212.8.1.2`
is read as a reply: to take a refusal for a delivery loses mail, which is worse than a copy."""


class FinalReader:
    """Takes what comes after the final dot. Only made when it is not one plain line, see `plain`."""

    __slots__ = ("_code", "_lines", "_odd", "_rest", "_seen", "_skipping", "clean")

    def __init__(self) -> None:
        self._rest = b""
        self._seen = 0
        """Bytes so far."""
        self._skipping = False
        """Within a line whose beginning was judged already: it is longer than any line should be."""
        self._code = b""
        """Of the lines that go on."""
        self._lines: list[bytes] = []
        """Texts of the lines that go on."""
        self._odd: tuple[bytes, bytes] | None = None
        """Code and text of the first line that can be read as a reply with some good will."""
        self.clean = True
        """Nothing has come but one reply in its proper form."""

    def feed(self, data: bytes) -> Reply | None:
        """Take bytes; the answer once it is certain.

        Raises `ReplyError` when lines contradict each other, or when the bounds are passed without any answer.
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
        """The answer as far as it has come, for the moment when no more will come; None: nothing was an answer."""
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
        """An answer has begun: it is not worth while to wait long for the rest of it."""
        return bool(self._lines or self._odd or _ODD.match(self._rest[:LINE_LIMIT]))

    def _keep(self, rest: bytes) -> Reply | None:
        """What is left after the last line end. Judged early when it is too long, or all is too much."""
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
        """One line without its LF; the answer when this settles it."""
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
    """The reply, where `data` is one in its proper form and on one line, as nearly always."""
    if data.find(b"\n") == len(data) - 1 < LINE_LIMIT and _PLAIN.match(data) is not None:
        return single(data[:-1])
    return None
