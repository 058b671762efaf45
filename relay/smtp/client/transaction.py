"""One mail transaction, sans-IO: replies in, bytes to write out, and at the end one reply for each recipient.

The state is `stage`, the command whose reply is awaited; the table `_HANDLERS` has the handler of each stage. With
PIPELINING, MAIL, RCPT and DATA are written at once (RFC 2920), without it one by one; replies are handled the same way.
A recipient counts as delivered only by a 2xx after the final dot of a message for which its RCPT was accepted.
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
    """The peer's reply is not valid at this stage. Its meaning is unknown, so the failure is temporary."""


class Transaction:
    """Pass each reply to `receive` and write what it returns. `envelope` must have at least one RCPT command."""

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
        """`reset`: the previous transaction is still open at the peer, so RSET is sent first."""
        self._envelope = envelope
        self._pipelining = pipelining
        self._resetting = reset
        self._next = 0
        self._accepted: list[int] = []
        self._refusal: Reply | None = None
        self._dot = False
        self.replies = list(envelope.replies)
        """Final reply of each outgoing recipient; None: not known yet."""
        self.stage = Stage.MAIL
        self.answered = False
        """A reply was received, so the connection was alive when this transaction began."""
        self.content_due = False
        """The message must be written now; then call `content_written`."""
        self.done = False
        self.closing = False
        """The connection must be closed after this transaction."""
        self.dirty = False
        """Once done: the peer still has the envelope, so the next transaction must start with RSET."""
        self.farewell: Reply | None = None
        """The 421 that ended the transaction before every recipient had a reply."""

    def begin(self) -> bytes:
        """Return the first bytes to write."""
        envelope = self._envelope
        if not self._pipelining:
            return RSET if self._resetting else envelope.mail
        return b"".join((RSET if self._resetting else b"", envelope.mail, *envelope.rcpts, DATA))

    @property
    def expected(self) -> int:
        """Number of replies that the peer may send now under the protocol."""
        if self.done or self.content_due:
            return 0
        if not self._pipelining or self.stage is Stage.END:
            return 1
        return self._resetting + (self.stage is Stage.MAIL) + len(self._envelope.rcpts) - self._next + 1

    @property
    def settled(self) -> bool:
        """Whether every recipient's reply is known, even if other replies are outstanding."""
        return self._refusal is not None or None not in self.replies

    def receive(self, reply: Reply) -> bytes | None:
        """Process the next reply. Returns the bytes to write now, or None. Raises `ViolationError`."""
        self.answered = True
        if reply.code == 421:
            self._leave(reply)
            return None
        return self._HANDLERS[self.stage](self, reply)

    def content_written(self) -> None:
        """Report that the message and its final dot were written."""
        assert self.content_due, "content was written that nobody asked for"
        self.content_due = False
        self.stage = Stage.END

    def final(self) -> list[Reply]:
        """Return a reply for each recipient. Call only if `settled`."""
        return [reply for reply in self.known() if reply is not None]

    def known(self) -> list[Reply | None]:
        """Return the reply known for each recipient; None: not known yet."""
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
            # The peer refused MAIL but accepts DATA, so its state is unclear. Close without sending any content.
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
        self.closing = True  # the message is incomplete, so no command can follow it
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
        """Handle a 421: the peer closes the connection, whatever the command was (RFC 5321 §3.8)."""
        if self.stage is Stage.MAIL and not self._resetting:
            pass  # the end of the session, not a refusal of the sender: see `farewell`
        elif self.stage in (Stage.CONTENT, Stage.END) and not self._dot:
            self._conclude(reply)
        if not self.settled:
            self.farewell = reply
        self.content_due = False
        self.closing = True
        self._finish()


def _too_many(reply: Reply) -> Reply:
    """Treat a 552 after an accepted recipient as 452, because it once meant "too many" (RFC 5321 §4.5.3.1.10).

    This does not apply if the enhanced code names the mailbox. In a later attempt, in which the recipient comes first,
    the code counts unchanged.
    """
    if reply.code == 552 and reply.detail[:2] in ("", "5.", "3."):
        return Reply(452, "4.5.3", reply.text)
    return reply
