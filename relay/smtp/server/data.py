"""DATA: the command, and the reader that finds the end of a message and takes the dot-stuffing out.

Only the octets CRLF.CRLF as received end a message (RFC 5321 §4.1.1.4, VU#302671): nothing is normalised before the
search. Works on blocks of any cut with at most four octets carried over.
"""

from relay.smtp.line_ends import dotted_line
from relay.smtp.reply import Reply
from relay.smtp.server import texts
from relay.smtp.server.content import Content
from relay.smtp.server.session import Phase, Session

_END = b"\r\n.\r\n"
_DOT = b"\r\n."


class DataReader:
    """Feeds a `Content` from the octets after 354."""

    __slots__ = ("_content", "_fresh", "_held")

    def __init__(self, content: Content) -> None:
        self._content = content
        self._held = b"\r\n"
        """Octets that may be the beginning of the end. The reply to DATA counts as the first line's start."""
        self._fresh = True
        """Nothing was passed on, so the CRLF before the first line is still to be taken off."""

    def feed(self, block: bytes) -> int:
        """Take a block. Returns how many octets of it belong to the message and its end, or -1: all, and not ended."""
        held = self._held
        data = held + block
        # One search serves both questions: without a dot at a line's start there is no end, and nothing to unstuff.
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
        """Unstuff (RFC 5321 §4.5.2) and pass on.

        A CRLF at the very end of `piece` is the message's last, so no stuffed dot hides at a cut.
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
    """How many octets at the end of `data` could begin CRLF.CRLF."""
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
        # DATA ends a pipelined group (RFC 2920 §3.1). Octets behind it were sent without waiting for 354: an injected
        # command, a request of another protocol, or a message that would be run as commands if DATA is refused.
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
    """The final dot arrived."""
    content = session.content
    assert content is not None, "a message ends only after it began"
    fault = content.finish()
    if fault is None:
        session.deliver()
        return
    session.reset()
    session.phase = Phase.COMMAND
    session.refuse(fault)
