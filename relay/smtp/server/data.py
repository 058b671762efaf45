"""DATA: the command, and the reader that finds the end of a message and removes the dot-stuffing.

Only the octets CRLF.CRLF as received end a message (RFC 5321 §4.1.1.4, VU#302671); nothing is normalised before the
search. The reader accepts blocks of any size and keeps at most four octets between them.
"""

from relay.smtp.line_ends import dotted_line
from relay.smtp.reply import Reply
from relay.smtp.server import texts
from relay.smtp.server.content import Content
from relay.smtp.server.session import Phase, Session

_END = b"\r\n.\r\n"
_DOT = b"\r\n."


class DataReader:
    """Passes the bytes received after 354 to a `Content`."""

    __slots__ = ("_content", "_fresh", "_held")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._held = b"\r\n"
        """Bytes that may be the start of CRLF.CRLF. Initially CRLF, because a dot right after 354 starts a line too."""
        self._fresh = True
        """Nothing was passed on yet, so the initial CRLF in `_held` must still be removed."""

    def feed(self, block: bytes) -> int:
        """Process a block. Returns how many of its bytes belong to the message and its end, or -1 if it did not end."""
        held = self._held
        data = held + block
        # One search answers both questions: without a dot at the start of a line there is neither an end of the message
        # nor a stuffed dot.
        dot = dotted_line(data)
        if dot >= 0:
            end = data.find(_END, dot)
            if end >= 0:
                self._pass(data[: end + 2], dotted=dot < end)
                return end + len(_END) - len(held)
        keep = _beginning_of_end(data)
        self._held = data[len(data) - keep :]
        self._pass(data[: len(data) - keep] if keep else data, dotted=dot >= 0)
        return -1

    def _pass(self, piece: bytes, *, dotted: bool) -> None:
        """Remove the dot-stuffing (RFC 5321 §4.5.2) and pass the bytes on.

        `piece` ends with CRLF only at the end of the message, so a stuffed dot is never separated from its CRLF.
        """
        if not piece:
            return
        if dotted and self._content.fault is None:
            piece = piece.replace(_DOT, b"\r\n")
        if self._fresh:
            self._fresh = False
            piece = piece[2:]
        self._content.write(piece)


def _beginning_of_end(data: bytes) -> int:
    """The number of bytes at the end of `data` that could be the start of CRLF.CRLF."""
    if data.endswith(b"\r\n"):
        return 2
    if data.endswith(b"\r"):
        return 4 if data.endswith(b"\r\n.\r") else 1
    return 3 if data.endswith(b"\r\n.") else 0


def data(session: Session, argument: str) -> None:
    """DATA (RFC 5321 §4.1.1.4)."""
    if argument:
        session.refuse(texts.NO_ARGUMENT)
        return
    if session.more:
        # DATA ends a pipelined group (RFC 2920 §3.1). Bytes after it were sent without waiting for 354: an injected
        # command, a request of another protocol, or a message that would be executed as commands if DATA is refused.
        session.close(texts.UNSYNCHRONISED)
        return
    transaction = session.transaction
    if transaction is None:
        session.refuse(texts.NEED_MAIL)
    elif session.chunked:
        session.refuse(texts.IN_CHUNKS)
    elif not transaction.recipients:
        session.refuse(texts.NEED_RCPT)
    else:
        incoming = session.handler.incoming(session.peer, transaction)
        if isinstance(incoming, Reply):
            session.answer(incoming)
            return
        session.content = content = Content(incoming, session.context.max_message_size, normalise=session.lenient)
        session.reader = DataReader(content)
        session.phase = Phase.DATA
        session.say(texts.START_DATA)


def end(session: Session) -> None:
    """Finish the message after the final dot: deliver it, or refuse it."""
    content = session.content
    assert content is not None, "a message ends only after it began"
    fault = content.finish()
    if fault is None:
        session.deliver()
        return
    session.reset()
    session.phase = Phase.COMMAND
    session.refuse(fault)
