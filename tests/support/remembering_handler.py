"""A session handler that takes everything it is not told to refuse, and remembers it."""

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO

from relay.message.incoming import Incoming
from relay.model.peer import Identity, Peer, TlsFailure
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply


@dataclass
class Received:
    """One message that was answered 250."""

    transaction: Transaction
    octets: bytes
    peer: Peer

    @property
    def recipients(self) -> list[str]:
        return [recipient.address for recipient in self.transaction.recipients]


@dataclass
class RememberingHandler:
    """Implements `relay.smtp.server.handler.Handler`."""

    users: dict[str, str] = field(default_factory=lambda: {"user": "pass"})
    trusted: bool = False
    greeting: Reply | None = None
    """What `connected` answers."""
    mail_reply: Callable[[Transaction], Reply | None] = lambda _: None
    rcpt_reply: Callable[[RecipientPath], Reply | None] = lambda _: None
    incoming_reply: Reply | None = None
    accept_reply: Reply | Exception | None = None
    manual: bool = False
    """Verdicts wait in `pending` until the test resolves them."""
    header_limit: int = 1 << 18
    spill_at: int = 1 << 18
    new_file: Callable[[], BinaryIO] = io.BytesIO
    messages: list[Received] = field(default_factory=list)
    refusals: list[tuple[str, Reply]] = field(default_factory=list)
    failures: list[tuple[Peer, TlsFailure]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    pending: list[asyncio.Future] = field(default_factory=list)
    opened: list[Peer] = field(default_factory=list)
    closed: list[Peer] = field(default_factory=list)
    contents: list[Incoming] = field(default_factory=list)
    discarded: int = 0
    """Files of messages that were broken off or refused."""

    def connected(self, peer: Peer) -> Reply | None:
        peer.trusted = self.trusted
        self.opened.append(peer)
        return self.greeting

    def disconnected(self, peer: Peer) -> None:
        self.closed.append(peer)

    def authenticate(self, peer: Peer, user: str, password: str) -> asyncio.Future[Identity | Reply]:
        self.logins.append((user, password))
        if self.users.get(user) == password:
            return self._resolve(Identity(user, ("*",)))
        return self._resolve(Reply(535, "5.7.8", "User name or password is wrong"))

    def mail(self, peer: Peer, transaction: Transaction) -> Reply | None:
        return self.mail_reply(transaction)

    def rcpt(self, peer: Peer, transaction: Transaction, recipient: RecipientPath) -> Reply | None:
        return self.rcpt_reply(recipient)

    def incoming(self, peer: Peer, transaction: Transaction) -> Incoming | Reply:
        if self.incoming_reply is not None:
            return self.incoming_reply
        content = Incoming(
            self.new_file, spill_at=self.spill_at, header_limit=self.header_limit, discard_file=self._discard_file
        )
        self.contents.append(content)
        return content

    def accept(self, peer: Peer, transaction: Transaction, content: Incoming) -> asyncio.Future[Reply]:
        assert content.header is not None
        octets = content.header + b"".join(content.body_blocks())
        content.discard()
        if self.accept_reply is not None:
            return self._resolve(self.accept_reply)
        self.messages.append(Received(transaction, octets, peer))
        return self._resolve(Reply(250, "2.0.0", f"Queued as m{len(self.messages)}"))

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        self.refusals.append((command, reply))

    def handshake_failed(self, peer: Peer, failure: TlsFailure) -> None:
        self.failures.append((peer, failure))

    def _resolve(self, verdict: Identity | Reply | Exception) -> asyncio.Future:
        future = asyncio.get_running_loop().create_future()
        if self.manual:
            future.verdict = verdict
            self.pending.append(future)
        elif isinstance(verdict, Exception):
            future.set_exception(verdict)
        else:
            future.set_result(verdict)
        return future

    def _discard_file(self, file: BinaryIO) -> None:
        self.discarded += 1
        file.close()
