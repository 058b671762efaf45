"""One mail transaction, sans-IO: replies in, octets to write out, and at the end a reply for each recipient.

The state is `stage`, the command whose reply is awaited; `_HANDLERS` is the table of what each reply does there. With
PIPELINING all of MAIL, RCPT and DATA are written at once (RFC 2920), without it one by one; the replies are read alike.
A recipient counts as delivered by one thing alone: a 2xx after the final dot, to a message that was sent to them.
"""

from collections.abc import Callable
from typing import ClassVar

from relay.smtp.client.envelope import Envelope
from relay.smtp.client.model import Stage
from relay.smtp.reply import Reply

RSET = b"RSET\r\n"
DATA = b"DATA\r\n"
DOT = b".\r\n"


class ViolationError(Exception):
    """The peer's reply makes no sense at this stage. What it means for the message is unknown: temporary."""


class Transaction:
    """Feed it each reply with `receive`; write what it returns. `envelope` has at least one command to ask."""

    __slots__ = (
        "_accepted",
        "_dot",
        "_envelope",
        "_next",
        "_pipelining",
        "_refusal",
        "_resetting",
        "answered",
        "closing",
        "content_due",
        "dirty",
        "done",
        "farewell",
        "replies",
        "stage",
    )

    def __init__(self, envelope: Envelope, *, pipelining: bool, reset: bool = False) -> None:
        """`reset`: the transaction before was left open at the peer, so RSET comes first."""
        self._envelope = envelope
        self._pipelining = pipelining
        self._resetting = reset
        self._next = 0
        self._accepted: list[int] = []
        self._refusal: Reply | None = None
        self._dot = False
        self.replies = list(envelope.replies)
        """Final replies per outgoing recipient; None while not known."""
        self.stage = Stage.MAIL
        self.answered = False
        """A reply was received: the connection was alive when this transaction began."""
        self.content_due = False
        """The message is to be written now; then call `content_written`."""
        self.done = False
        self.closing = False
        """The connection is of no use after this."""
        self.dirty = False
        """When done: the peer still has the envelope, so the next transaction begins with RSET."""
        self.farewell: Reply | None = None
        """The 421 that ended it before all was known."""

    def begin(self) -> bytes:
        """The first octets to write."""
        envelope = self._envelope
        if not self._pipelining:
            return RSET if self._resetting else envelope.mail
        return b"".join((RSET if self._resetting else b"", envelope.mail, *envelope.rcpts, DATA))

    @property
    def expected(self) -> int:
        """Replies the peer may send now without breaking the protocol."""
        if self.done or self.content_due:
            return 0
        if not self._pipelining or self.stage is Stage.END:
            return 1
        return self._resetting + (self.stage is Stage.MAIL) + len(self._envelope.rcpts) - self._next + 1

    @property
    def settled(self) -> bool:
        """Every recipient's fate is known, even if replies are outstanding."""
        return self._refusal is not None or None not in self.replies

    def receive(self, reply: Reply) -> bytes | None:
        """The next reply. Returns what is to be written now, if anything. Raises `ViolationError`."""
        self.answered = True
        if reply.code == 421:
            self._leave(reply)
            return None
        return self._HANDLERS[self.stage](self, reply)

    def content_written(self) -> None:
        """The message and its final dot are on their way."""
        assert self.content_due, "content was written that nobody asked for"
        self.content_due = False
        self.stage = Stage.END

    def final(self) -> list[Reply]:
        """A reply for each recipient; only when `settled`."""
        return [reply for reply in self.known() if reply is not None]

    def known(self) -> list[Reply | None]:
        """What is known of each recipient."""
        return [self._refusal if reply is None else reply for reply in self.replies]

    # -- replies by stage ---------------------------------------------------------------------------------------------

    def _mail(self, reply: Reply) -> bytes | None:
        if self._resetting:
            if not 200 <= reply.code < 300:
                raise ViolationError(f"RSET was refused: {reply}")
            self._resetting = False
            return None if self._pipelining else self._envelope.mail
        if 300 <= reply.code < 400:
            raise ViolationError(f"unexpected reply to MAIL: {reply}")
        if reply.code >= 400:
            self._refusal = reply
            if not self._pipelining:
                self._finish()
                return None
        self.stage = Stage.RCPT
        return None if self._pipelining else self._envelope.rcpts[0]

    def _rcpt(self, reply: Reply) -> bytes | None:
        index = self._envelope.indices[self._next]
        self._next += 1
        if 300 <= reply.code < 400:
            raise ViolationError(f"unexpected reply to RCPT: {reply}")
        if reply.code < 300:
            self._accepted.append(index)
        elif self._refusal is None:
            self.replies[index] = _too_many(reply) if self._accepted else reply
        if self._next < len(self._envelope.rcpts):
            return None if self._pipelining else self._envelope.rcpts[self._next]
        self.stage = Stage.DATA
        if self._pipelining:
            return None
        if self._accepted:
            return DATA
        self._finish(dirty=True)
        return None

    def _data(self, reply: Reply) -> bytes | None:
        if reply.code == 354:
            return self._go_ahead()
        if reply.code < 400:
            raise ViolationError(f"unexpected reply to DATA: {reply}")
        self._conclude(reply)
        self._finish(dirty=self._refusal is None)
        return None

    def _go_ahead(self) -> bytes | None:
        if self._refusal is not None:
            # It refused MAIL and wants the message: whom for, nobody knows. Leave without giving it any.
            self.closing = True
            self._finish()
            return None
        if not self._accepted:
            self._dot = True  # RFC 2920 §3.1: nobody was accepted, so the message is a single dot
            self.stage = Stage.END
            return DOT
        self.content_due = True
        self.stage = Stage.CONTENT
        return None

    def _content(self, reply: Reply) -> bytes | None:
        if reply.code < 400:
            raise ViolationError(f"a reply before the message's end: {reply}")
        self._conclude(reply)
        self.content_due = False
        self.closing = True  # half a message is on the wire: nothing can follow it
        self._finish()
        return None

    def _end(self, reply: Reply) -> bytes | None:
        if 300 <= reply.code < 400:
            raise ViolationError(f"unexpected reply to the message's end: {reply}")
        if not self._dot:
            self._conclude(reply)
        self._finish()
        return None

    _HANDLERS: ClassVar[dict[Stage, Callable[["Transaction", Reply], bytes | None]]] = {
        Stage.MAIL: _mail,
        Stage.RCPT: _rcpt,
        Stage.DATA: _data,
        Stage.CONTENT: _content,
        Stage.END: _end,
    }

    def _conclude(self, reply: Reply) -> None:
        for index in self._accepted:
            self.replies[index] = reply

    def _finish(self, *, dirty: bool = False) -> None:
        self.done = True
        self.dirty = dirty

    def _leave(self, reply: Reply) -> None:
        """421: the peer closes now, whatever it was asked (RFC 5321 §3.8)."""
        if self.stage is Stage.MAIL and not self._resetting:
            pass  # the session's end, not a verdict on the sender: `farewell` tells
        elif self.stage in (Stage.CONTENT, Stage.END) and not self._dot:
            self._conclude(reply)
        if not self.settled:
            self.farewell = reply
        self.content_due = False
        self.closing = True
        self._finish()


def _too_many(reply: Reply) -> Reply:
    """RFC 5321 §4.5.3.1.10: 552 once meant "too many recipients"; after an accepted one it is taken for 452.

    Not when the enhanced code names the mailbox. As the first recipient of a later attempt it counts as it stands.
    """
    if reply.code == 552 and reply.detail[:2] in ("", "5.", "3."):
        return Reply(452, "4.5.3", reply.text)
    return reply
