"""The state of one session, and the methods with which commands answer.

Sans-IO: replies are collected in `out` until the shell takes them; a future from the handler stops the session (`busy`)
until it resolves. The commands are functions in sibling modules (`greeting`, `envelope`, `data`, `bdat`, `auth`); the
engine passes them lines and bytes. Must not read a clock, touch a socket or decide policy.
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
"""Number of temporary refusals (4xx) between two messages that do not count as errors."""
_DEFERRALS_PER_PLACE = 4
"""The same limit for each recipient that a message may have; it applies if the product exceeds `_DEFERRALS`. A client
that pipelines a list has sent all of it before the first 452 arrives (RFC 5321 §4.5.3.1.10; compare Postfix's
smtpd_recipient_overshoot_limit)."""
_IDLE_COMMANDS = 100
"""Limit of commands without effect (NOOP, RSET, EHLO …) between two messages; as Postfix's smtpd_junk_command_limit."""


class Phase(enum.Enum):
    """How the next bytes are interpreted."""

    COMMAND = enum.auto()
    AUTH = enum.auto()
    """A line of an AUTH exchange."""
    DATA = enum.auto()
    CHUNK = enum.auto()
    """Bytes of a BDAT chunk."""
    DISCARD = enum.auto()
    """The rest of a command line that was already refused."""
    TLS = enum.auto()
    """A TLS handshake; nothing is read until the shell calls `Session.secured`."""
    CLOSED = enum.auto()


class Reader(Protocol):
    """Processes the bytes received after 354."""

    def feed(self, block: bytes) -> int:
        """Process a block. Returns how many of its bytes belong to the message and its end, or -1 if it did not end."""
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
        """The session is waiting for the handler and processes nothing."""
        self.wake: Callable[[], None] = _nothing
        """Called when a future from the handler has resolved; `out` may then have new replies."""
        self.draining = False
        """The server is shutting down; the session ends as soon as no transaction is open."""
        self.local = is_loopback(peer.address) if local is None else local
        """The client is on this machine."""
        self.line = ""
        """The current command, for events; never contains credentials."""
        self.more = False
        """More bytes have arrived after the current command."""
        self.quit = False
        """The client sent QUIT, so it sends nothing more."""
        self.commands = 0
        """Number of command lines and messages completed, successfully or not."""
        self.transaction: Transaction | None = None
        self.content: Content | None = None
        """Collects the message's bytes during DATA or BDAT."""
        self.reader: Reader | None = None
        """Finds the end of the message during DATA."""
        self.chunked = False
        """BDAT has begun in this transaction."""
        self.chunk_left = 0
        self.chunk_last = False
        self.chunk_fault: Canned | Reply | None = None
        """The refusal that is sent after this chunk has been consumed; None if the chunk is stored."""
        self.auth_step: Callable[[Session, str], None] | None = None
        """The function that processes the next line of an AUTH exchange."""
        self.auth_user = ""
        self.auth_failures = 0
        self.errors = 0
        self.deferrals = 0
        """Number of temporary refusals since the last message."""
        self.unknown = 0
        self.idle_commands = 0

    def say(self, canned: Canned) -> None:
        """Answer a command that succeeded."""
        self.out.append(canned.wire)

    def refuse(self, canned: Canned) -> None:
        """Answer a command that failed, with a fixed reply."""
        self._count(canned.reply, canned.wire)

    def answer(self, reply: Reply) -> None:
        """Answer with a reply from the handler; a 421 ends the session."""
        if reply.code < 400:
            self.out.append(texts.encode(reply))
            return
        self._count(reply, texts.encode(reply))
        if reply.code == 421:
            self.close()

    def refuse_any(self, fault: Canned | Reply) -> None:
        """Refuse with a fixed reply or a reply from the handler."""
        if isinstance(fault, Canned):
            self.refuse(fault)
        else:
            self.answer(fault)

    def idle_command(self) -> bool:
        """Count a command without effect. Returns True if there were too many and the session was closed."""
        self.idle_commands += 1
        if self.idle_commands > _IDLE_COMMANDS:
            self.close(texts.TOO_MANY_IDLE_COMMANDS)
            return True
        return False

    def close(self, canned: Canned | None = None) -> None:
        """End the session, with a last reply if one is given, and discard an incomplete message."""
        if self.phase is Phase.CLOSED:
            return
        if canned is not None:
            self.out.append(canned.wire)
            if canned.reply.code >= 400:
                self.handler.refused(self.peer, self.line, canned.reply)
        self.reset()
        self.phase = Phase.CLOSED

    def reset(self) -> None:
        """Discard the transaction (RFC 5321 §4.1.1.5)."""
        self.transaction = None
        self.reader = None
        self.chunked = False
        self.chunk_fault = None
        content, self.content = self.content, None
        if content is not None:
            content.discard()

    def secured(self, tls: str) -> None:
        """The TLS handshake succeeded: discard everything the client sent before it (RFC 3207 §4.2)."""
        self.reset()
        peer = self.peer
        peer.tls = tls
        peer.helo = ""
        peer.extended = False
        peer.identity = None
        self.phase = Phase.COMMAND

    def wait(self, future: "asyncio.Future[Any]", then: "Callable[[asyncio.Future[Any]], None]") -> None:
        """Stop processing until the handler has decided, then call `then`."""
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
        """Pass a complete, well-formed message to the handler and wait for its reply."""
        content, transaction = self.content, self.transaction
        assert content is not None, "a message ends only after it began"
        assert transaction is not None, "content belongs to a transaction"
        self.content = None
        self.reset()
        self.phase = Phase.COMMAND
        self.wait(self.handler.accept(self.peer, transaction, content.incoming), self._accepted)

    def _accepted(self, future: "asyncio.Future[Reply]") -> None:
        """Answer with the handler's reply to a message."""
        error = _retrieve(future)
        if error is not None:
            self.refuse(texts.INTERNAL)
            return
        reply = future.result()
        if reply.code < 400:
            self.idle_commands = self.deferrals = 0
            if self.peer.identity is not None or self.peer.trusted:
                # A connection pool sends many messages in one session, so each accepted message resets the errors.
                self.errors = 0
        self.answer(reply)

    @property
    def auth_offered(self) -> bool:
        """Whether AUTH may be used now: with TLS, or from this machine if the settings allow it."""
        listener = self.context.listener
        if listener.auth == "off":
            return False
        return self.peer.tls is not None or (listener.plaintext_auth and self.local)

    @property
    def tls_offered(self) -> bool:
        """Whether STARTTLS may be used now."""
        return self.context.tls is not None and self.context.listener.tls == "starttls" and self.peer.tls is None

    @property
    def lenient(self) -> bool:
        """Whether to repair line ends and accept addresses without brackets, because the client is one of our own."""
        return self.peer.identity is not None or self.peer.trusted

    def _count(self, reply: Reply, wire: bytes) -> None:
        """Send a refusal, report it to the handler, and end the session if there were too many errors."""
        self.handler.refused(self.peer, self.line, reply)
        if reply.code >= 500 or self._deferred_too_often():
            self.errors += 1
            if self.errors > self.context.limits.errors:
                self.close(texts.TOO_MANY_ERRORS)
                return
        self.out.append(wire)

    def _deferred_too_often(self) -> bool:
        """Count a temporary refusal, and return whether it counts as an error.

        The first ones do not: the client is expected to retry, and part of a long recipient list may be deferred.
        """
        self.deferrals += 1
        return self.deferrals > max(_DEFERRALS, _DEFERRALS_PER_PLACE * self.context.max_recipients)


def _retrieve(future: "asyncio.Future[Any]") -> BaseException | None:
    """The error of a future from the handler, which is logged here; None if the future has a result."""
    if future.cancelled():
        return asyncio.CancelledError()
    error = future.exception()
    if error is not None:
        log.error("handler failed", exc_info=error)
    return error


def failed_identity(future: "asyncio.Future[Identity | Reply]") -> Identity | Reply:
    """The handler's answer to a password; an internal error becomes a temporary refusal."""
    if _retrieve(future) is not None:
        return texts.INTERNAL.reply
    return future.result()


def _nothing() -> None:
    """Does nothing; the default of `Session.wake` while no shell is attached."""
