"""The interface between a server session and the rest of the relay. It keeps policy out of the protocol code.

`relay.submission` implements it for the real listeners, `relay.process.sandbox` for the sandbox's receiver, and the
protocol's tests with a handler that records its calls. The synchronous methods must be fast and never block.
"""

import asyncio
from typing import Protocol

from relay.message.incoming import Incoming
from relay.model.peer import Identity, Peer, TlsFailure
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply


class Handler(Protocol):
    """Decides policy and accepts the mail. A returned `Reply` is a refusal; None lets the session continue."""

    def connected(self, peer: Peer) -> Reply | None:
        """A client connected (after any PROXY header): set `peer.trusted`; a 421 or 554 reply closes the session."""
        ...

    def disconnected(self, peer: Peer) -> None:
        """The session ended, for whatever reason."""
        ...

    def authenticate(self, peer: Peer, user: str, password: str) -> asyncio.Future[Identity | Reply]:
        """Check a password without blocking the event loop. A Reply (535 5.7.8, 454 4.7.0, 421 4.7.0) is a refusal."""
        ...

    def mail(self, peer: Peer, transaction: Transaction) -> Reply | None:
        """Decide whether this client may send from this address (530, 550 5.7.1, 451 4.7.1, 452 4.3.1 …)."""
        ...

    def rcpt(self, peer: Peer, transaction: Transaction, recipient: RecipientPath) -> Reply | None:
        """Decide whether this client may send to this recipient (550 5.7.1 relaying denied …).

        The session, not the handler, appends an accepted recipient to the transaction.
        """
        ...

    def incoming(self, peer: Peer, transaction: Transaction) -> Incoming | Reply:
        """At DATA or the first BDAT: where to store the content, or a refusal (452 4.3.1 disk, 421 4.3.2 shutdown)."""
        ...

    def accept(self, peer: Peer, transaction: Transaction, content: Incoming) -> asyncio.Future[Reply]:
        """Accept a complete message. The future resolves to 250 with the queue id once it is durable, or to a refusal.

        The handler owns `content` from now on. If the future has an exception, the session answers 451 4.3.0.
        """
        ...

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        """A command was answered 4xx or 5xx; called for events and abuse counting."""
        ...

    def handshake_failed(self, peer: Peer, failure: TlsFailure) -> None:
        """A TLS handshake failed. With implicit TLS there is no session yet, so `connected` was not called before."""
        ...
