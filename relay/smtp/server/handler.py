"""What a server session asks of the rest of the relay: one small interface, so that the protocol knows no policy.

`relay.submission` implements it for the real listeners, `relay.process.sandbox` for the sandbox's receiver, and the
protocol's tests with a handler that remembers. The synchronous calls must be quick and never block.
"""

import asyncio
from typing import Protocol

import msgspec

from relay.message.incoming import Incoming
from relay.smtp.reply import Reply


class Identity(msgspec.Struct, frozen=True):
    """Who a client proved to be."""

    user: str
    senders: tuple[str, ...] = ()
    """Sender addresses or domains the user may use: `a@example.org`, `example.org`, or `*`."""
    generation: int = 0
    """Which state of the users it was made from; the verifier looks again when there is a newer one."""


class Peer(msgspec.Struct):
    """The client's end of a session, as far as policy and trace fields need it."""

    address: str
    """IP address in text, without port (the PROXY protocol's where that is used)."""
    port: int
    listener: str
    """`address` of the listener, as in the settings."""
    helo: str = ""
    """Argument of the last EHLO or HELO."""
    extended: bool = False
    """EHLO was used."""
    tls: str | None = None
    """Protocol version and cipher, e.g. `TLSv1.3 TLS_AES_256_GCM_SHA384`; None without TLS."""
    identity: Identity | None = None
    """Who authenticated; None before."""
    trusted: bool = False
    """The address lies in `submission.trusted_networks`; set by `Handler.connected`."""


class TlsFailure(msgspec.Struct, frozen=True):
    """Why a TLS handshake failed, and what the client offered (or what was agreed on), as far as both are known."""

    reason: str
    versions: tuple[str, ...] = ()
    """TLS versions, e.g. `TLSv1.1`."""
    ciphers: tuple[str, ...] = ()
    """The first ciphers of the client's list."""
    name: str = ""
    """The server name that the client asked for (SNI)."""


class RecipientPath(msgspec.Struct):
    """One accepted RCPT."""

    address: str
    domain: str
    """Lower-case A-label, or an address literal with brackets."""
    notify: str | None = None
    orcpt: str | None = None

    @property
    def mailbox(self) -> str:
        """The address for comparing: the same for two that differ only in how their domain is spelled.

        The case of the local part makes a difference (RFC 5321 §2.4).
        """
        return f"{self.address.rpartition('@')[0]}@{self.domain}"


class Transaction(msgspec.Struct):
    """One mail transaction: MAIL, its RCPTs, its content."""

    sender: str
    """Empty for `<>`."""
    sender_domain: str
    declared_size: int | None = None
    eightbit: bool = False
    """BODY=8BITMIME (or BINARYMIME is refused)."""
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    recipients: list[RecipientPath] = msgspec.field(default_factory=list)
    """Each once, in the order of their first RCPT."""
    mailboxes: set[str] = msgspec.field(default_factory=set)
    """`RecipientPath.mailbox` of each."""
    repeated: int = 0
    """RCPTs that named one of them again."""


class Handler(Protocol):
    """Decides, and takes the mail. A returned `Reply` refuses; None lets the session go on."""

    def connected(self, peer: Peer) -> Reply | None:
        """A client connected (after any PROXY header): set `peer.trusted`; a 421 or 554 reply closes the session."""
        ...

    def disconnected(self, peer: Peer) -> None:
        """The session ended, however."""
        ...

    def authenticate(self, peer: Peer, user: str, password: str) -> asyncio.Future[Identity | Reply]:
        """Check a password off the loop. A Reply (535 5.7.8, 454 4.7.0, 421 4.7.0) refuses."""
        ...

    def mail(self, peer: Peer, transaction: Transaction) -> Reply | None:
        """MAIL was understood: may this client send, from this address? (530, 550 5.7.1, 451 4.7.1, 452 4.3.1 …)."""
        ...

    def rcpt(self, peer: Peer, transaction: Transaction, recipient: RecipientPath) -> Reply | None:
        """RCPT was understood: may this client send there? (550 5.7.1 relaying denied …). The session appends it."""
        ...

    def incoming(self, peer: Peer, transaction: Transaction) -> Incoming | Reply:
        """DATA or the first BDAT: where the content goes, or why not now (452 4.3.1 disk, 421 4.3.2 shutting down)."""
        ...

    def accept(self, peer: Peer, transaction: Transaction, content: Incoming) -> asyncio.Future[Reply]:
        """The whole message is here: resolves to the 250 with the queue id after it is durable, or a refusal.

        Owns `content` from now on. An exception in the future is answered 451 4.3.0.
        """
        ...

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        """A command was answered 4xx or 5xx (for events and abuse counting)."""
        ...

    def handshake_failed(self, peer: Peer, failure: TlsFailure) -> None:
        """A TLS handshake failed. With implicit TLS the client has no session: `connected` was not called for it."""
        ...
