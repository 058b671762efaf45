"""What a server session asks of the rest of the relay: one small interface, so that the protocol knows no policy.

`relay.submission` implements it for the real listeners, `relay.process.sandbox` for the sandbox's receiver, and the
protocol's tests with a handler that remembers. The synchronous calls must be quick and never block.
"""

import asyncio
from typing import Protocol

from relay.message.incoming import Incoming
from relay.model.peer import Identity, Peer, TlsFailure
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply


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
