"""The state of one session and its voice: what the commands read and change, and how they answer.

Sans-IO: replies gather in `out` until the shell takes them; a future of the handler's stops the session (`busy`) until
it resolves. The commands are functions in sibling modules (`greeting`, `envelope`, `data`, `bdat`, `auth`); the engine
feeds them lines and octets. Must not read a clock, touch a socket or decide policy.
"""

import asyncio
import enum
import logging
from collections.abc import Callable
from typing import Any, Protocol

from relay.model.peer import Identity, Peer
from relay.model.transaction import Transaction
from relay.smtp.reply import Reply
from relay.smtp.server import texts
from relay.smtp.server.content import Content
from relay.smtp.server.context import ServerContext, is_loopback
from relay.smtp.server.texts import Canned

log = logging.getLogger(__name__)

_DEFERRALS = 100
"""Temporary refusals (4xx) between two messages that are never held against a client."""
_DEFERRALS_PER_PLACE = 4
"""For each recipient that a message may have: more than `_DEFERRALS` where that is many. Whoever pipelines a list has
sent all of it before the first 452 arrives (RFC 5321 §4.5.3.1.10; compare smtpd_recipient_overshoot_limit of Postfix).
"""
_IDLE_COMMANDS = 100
"""Commands that achieve nothing (NOOP, RSET, EHLO …) between two messages; Postfix's smtpd_junk_command_limit."""


class Phase(enum.Enum):
    """What the next octets are."""

    COMMAND = enum.auto()
    AUTH = enum.auto()
    """A line of an AUTH exchange."""
    DATA = enum.auto()
    CHUNK = enum.auto()
    """Octets of a BDAT chunk."""
    DISCARD = enum.auto()
    """The rest of a command line that was refused already."""
    TLS = enum.auto()
    """A handshake: nothing is read until the shell says that it ended."""
    CLOSED = enum.auto()


class Reader(Protocol):
    """Takes the octets after 354."""

    def feed(self, block: bytes) -> int:
        """Take a block; returns how many octets of it belong to the message and its end, or -1: all, not ended."""
        ...


class Session:
    """One client's session."""

    __slots__ = (
        "auth_failures",
        "auth_step",
        "auth_user",
        "busy",
        "chunk_fault",
        "chunk_last",
        "chunk_left",
        "chunked",
        "commands",
        "content",
        "context",
        "deferrals",
        "draining",
        "errors",
        "handler",
        "idle_commands",
        "line",
        "local",
        "more",
        "out",
        "peer",
        "phase",
        "quit",
        "reader",
        "transaction",
        "unknown",
        "wake",
    )

    def __init__(self, context: ServerContext, peer: Peer, *, local: bool | None = None) -> None:
        self.context = context
        self.handler = context.handler
        self.peer = peer
        self.phase = Phase.COMMAND
        self.out: list[bytes] = []
        """Replies not yet taken by the shell."""
        self.busy = False
        """Waits for the handler; nothing is processed."""
        self.wake: Callable[[], None] = _nothing
        """Called when a future of the handler's has resolved and `out` may have grown."""
        self.draining = False
        """Shutting down: end as soon as no transaction is open."""
        self.local = is_loopback(peer.address) if local is None else local
        """The client is on this machine."""
        self.line = ""
        """The command in hand, for events; never holds credentials."""
        self.more = False
        """More octets arrived after the command in hand."""
        self.quit = False
        """The client said QUIT, so it sends no more."""
        self.commands = 0
        """Command lines and messages completed, well or badly."""
        self.transaction: Transaction | None = None
        self.content: Content | None = None
        """Collects the message's octets during DATA or BDAT."""
        self.reader: Reader | None = None
        """Finds the message's end during DATA."""
        self.chunked = False
        """BDAT has begun in this transaction."""
        self.chunk_left = 0
        self.chunk_last = False
        self.chunk_fault: Canned | Reply | None = None
        """Why this chunk is consumed in vain."""
        self.auth_step: Callable[[Session, str], None] | None = None
        """What takes the next line of an AUTH exchange."""
        self.auth_user = ""
        self.auth_failures = 0
        self.errors = 0
        self.deferrals = 0
        """Temporary refusals since the last message."""
        self.unknown = 0
        self.idle_commands = 0

    def say(self, canned: Canned) -> None:
        """Answer a command that succeeded."""
        self.out.append(canned.wire)

    def refuse(self, canned: Canned) -> None:
        """Answer a command that failed, with a fixed reply."""
        self._count(canned.reply, canned.wire)

    def answer(self, reply: Reply) -> None:
        """Answer with a reply of the handler's; a 421 ends the session."""
        if reply.code < 400:
            self.out.append(texts.encode(reply))
            return
        self._count(reply, texts.encode(reply))
        if reply.code == 421:
            self.close()

    def refuse_any(self, fault: Canned | Reply) -> None:
        """Refuse with either kind of reply."""
        if isinstance(fault, Canned):
            self.refuse(fault)
        else:
            self.answer(fault)

    def idle_command(self) -> bool:
        """Count a command that leads nowhere; True when there were too many and the session has ended."""
        self.idle_commands += 1
        if self.idle_commands > _IDLE_COMMANDS:
            self.close(texts.TOO_MANY_IDLE_COMMANDS)
            return True
        return False

    def close(self, canned: Canned | None = None) -> None:
        """End the session, with a last reply if one is given. What was received so far of a message is let go."""
        if self.phase is Phase.CLOSED:
            return
        if canned is not None:
            self.out.append(canned.wire)
            if canned.reply.code >= 400:
                self.handler.refused(self.peer, self.line, canned.reply)
        self.reset()
        self.phase = Phase.CLOSED

    def reset(self) -> None:
        """Forget the transaction (RFC 5321 §4.1.1.5)."""
        self.transaction = None
        self.reader = None
        self.chunked = False
        self.chunk_fault = None
        content, self.content = self.content, None
        if content is not None:
            content.discard()

    def secured(self, tls: str) -> None:
        """The TLS handshake succeeded: all that was said before is forgotten (RFC 3207 §4.2)."""
        self.reset()
        peer = self.peer
        peer.tls = tls
        peer.helo = ""
        peer.extended = False
        peer.identity = None
        self.phase = Phase.COMMAND

    def wait(self, future: "asyncio.Future[Any]", then: "Callable[[asyncio.Future[Any]], None]") -> None:
        """Stop until the handler has decided, then go on with `then`."""
        if future.done():
            then(future)
            return
        self.busy = True

        def resolved(done: "asyncio.Future[Any]") -> None:
            self.busy = False
            if self.phase is Phase.CLOSED:
                _retrieve(done)
                return
            try:
                then(done)
            except Exception:
                log.exception("internal error in an SMTP session")
                self.close(texts.INTERNAL_CLOSE)
            self.wake()

        future.add_done_callback(resolved)

    def deliver(self) -> None:
        """The whole message is here and well-formed: hand it over and wait for the verdict."""
        content, transaction = self.content, self.transaction
        assert content is not None, "a message ends only after it began"
        assert transaction is not None, "content belongs to a transaction"
        self.content = None
        self.reset()
        self.phase = Phase.COMMAND
        self.wait(self.handler.accept(self.peer, transaction, content.incoming), self._accepted)

    def _accepted(self, future: "asyncio.Future[Reply]") -> None:
        """The verdict on a message."""
        error = _retrieve(future)
        if error is not None:
            self.refuse(texts.INTERNAL)
            return
        reply = future.result()
        if reply.code < 400:
            self.idle_commands = self.deferrals = 0
            if self.peer.identity is not None or self.peer.trusted:
                # A pool's session carries many messages; what was refused in an earlier one is not held against it.
                self.errors = 0
        self.answer(reply)

    @property
    def auth_offered(self) -> bool:
        """AUTH may be used now: under TLS, or from this machine where the settings allow it."""
        listener = self.context.listener
        if listener.auth == "off":
            return False
        return self.peer.tls is not None or (listener.plaintext_auth and self.local)

    @property
    def tls_offered(self) -> bool:
        """STARTTLS may be used now."""
        return self.context.tls is not None and self.context.listener.tls == "starttls" and self.peer.tls is None

    @property
    def lenient(self) -> bool:
        """Line ends are fixed and addresses without brackets accepted instead of refused: the client is one of ours."""
        return self.peer.identity is not None or self.peer.trusted

    def _count(self, reply: Reply, wire: bytes) -> None:
        """Answer a refusal, tell the handler, and end a session that had too many."""
        self.handler.refused(self.peer, self.line, reply)
        if reply.code >= 500 or self._deferred_too_often():
            self.errors += 1
            if self.errors > self.context.limits.errors:
                self.close(texts.TOO_MANY_ERRORS)
                return
        self.out.append(wire)

    def _deferred_too_often(self) -> bool:
        """Count a temporary refusal; whether it is to be counted as an error.

        The first ones are not: the client is meant to come again, and a long list may be deferred in part.
        """
        self.deferrals += 1
        return self.deferrals > max(_DEFERRALS, _DEFERRALS_PER_PLACE * self.context.max_recipients)


def _retrieve(future: "asyncio.Future[Any]") -> BaseException | None:
    """The error of a future of the handler's, logged once; None when there is a result."""
    if future.cancelled():
        return asyncio.CancelledError()
    error = future.exception()
    if error is not None:
        log.error("handler failed", exc_info=error)
    return error


def failed_identity(future: "asyncio.Future[Identity | Reply]") -> Identity | Reply:
    """The verdict on a password; an internal error is a temporary refusal."""
    if _retrieve(future) is not None:
        return texts.INTERNAL.reply
    return future.result()


def _nothing() -> None:
    """No shell is attached."""
