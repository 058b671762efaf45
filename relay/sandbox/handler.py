# ruff: noqa: ARG002 - the signatures are those of Handler
"""The policy of the sandbox's receiver: everyone may send anything to anyone, and magic recipients misbehave.

Implements `relay.smtp.server.handler.Handler`; holds no socket. Files are small and not fsynced, and this loop serves
only the sandbox, so files are written on the loop.
"""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Final

from relay.message.incoming import Incoming
from relay.model.peer import Identity, Peer, TlsFailure
from relay.model.transaction import RecipientPath, Transaction
from relay.sandbox.magic import AT_RECIPIENT, POLICY, SLOW_SECONDS, Greylist, magic
from relay.sandbox.store import Envelope, SandboxStore
from relay.smtp.reply import Reply
from relay_queue.ids import is_id, new_id

_NO_AUTH = Reply(503, "5.5.1", "The sandbox's receiver takes mail without AUTH")
_SUBJECT_KEPT = 2000
"""Characters of the subject as received; encoded words need several for each displayed character."""
_ID: Final = re.compile(rb"(?i)\sid\s+([0-9a-z]{26})[\s;]")
"""Queue id in a Received field that the relay added (`relay.message.received`)."""
_OWN_MESSAGE_ID: Final = re.compile(rb"<([0-9a-z]{26})@[^<>]*>")
"""Message-ID of the relay's own messages (DSNs), which have no Received field."""


class SandboxHandler:
    """Stores every message in `store`."""

    def __init__(
        self, store: SandboxStore, *, clock: Callable[[], float] = time.time, slow_seconds: float = SLOW_SECONDS
    ) -> None:
        self._store = store
        self._clock = clock
        self._slow_seconds = slow_seconds
        self._greylist = Greylist()

    def connected(self, peer: Peer) -> Reply | None:
        """Accept every client; the listener is bound to loopback."""
        peer.trusted = True
        return None

    def disconnected(self, peer: Peer) -> None:
        """Do nothing: no state is kept per client."""

    def authenticate(self, peer: Peer, user: str, password: str) -> asyncio.Future[Identity | Reply]:
        """AUTH is not offered here."""
        future: asyncio.Future[Identity | Reply] = asyncio.get_running_loop().create_future()
        future.set_result(_NO_AUTH)
        return future

    def mail(self, peer: Peer, transaction: Transaction) -> Reply | None:
        """Accept any sender."""
        return None

    def rcpt(self, peer: Peer, transaction: Transaction, recipient: RecipientPath) -> Reply | None:
        """Accept any recipient except the magic ones that are refused at RCPT."""
        name = magic(recipient.address)
        if name is None:
            return None
        if name == "greylist":
            return self._greylist.check(transaction.sender, recipient.address)
        return AT_RECIPIENT.get(name)

    def incoming(self, peer: Peer, transaction: Transaction) -> Incoming | Reply:
        """Collect the message in memory, or in a file beside the stored messages when it gets large."""
        # Words that cannot be folded may leave the relay in longer lines, which most servers accept.
        return Incoming(
            self._store.new_file, discard_file=self._store.discard_file, header_limit=1 << 20, take_long_lines=True
        )

    def accept(self, peer: Peer, transaction: Transaction, content: Incoming) -> asyncio.Future[Reply]:
        """Store the message. One magic recipient decides for all recipients, as there is only one reply."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        names = {magic(recipient.address) for recipient in transaction.recipients}
        if "reject-policy" in names:
            content.discard()
            future.set_result(POLICY)
            return future
        reply = self._keep(peer, transaction, content)
        if "slow" in names:
            loop.call_later(self._slow_seconds, _resolve, future, reply)
        else:
            future.set_result(reply)
        return future

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        """Do nothing: the only client is the relay, which logs refusals itself."""

    def handshake_failed(self, peer: Peer, failure: TlsFailure) -> None:
        """Do nothing: the sandbox offers no TLS."""

    def _keep(self, peer: Peer, transaction: Transaction, content: Incoming) -> Reply:
        header = content.header or b""
        now = self._clock()
        envelope = Envelope(
            id=new_id(now),
            received_at=now,
            sender=transaction.sender,
            recipients=tuple(recipient.address for recipient in transaction.recipients),
            size=content.size,
            helo=peer.helo,
            tls=peer.tls,
            smtputf8=transaction.smtputf8,
            subject=subject_of(header),
            queue_id=queue_id_of(header),
        )
        try:
            self._store.add(envelope, _blocks(header, content))
        except OSError as error:
            return Reply(452, "4.3.1", f"The sandbox could not store the message: {error.strerror}")
        finally:
            content.discard()
        return Reply(250, "2.0.0", f"Kept in the sandbox as {envelope.id}")


def _blocks(header: bytes, content: Incoming) -> Iterator[bytes]:
    yield header
    yield from content.body_blocks()


def _resolve(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():  # the client may have disconnected in the meantime
        future.set_result(reply)


def subject_of(header: bytes) -> str:
    """Return the first Subject field of a header block, unfolded and truncated; invalid UTF-8 becomes U+FFFD."""
    value = _first(header, b"subject")
    return "" if value is None else value.replace(b"\r\n", b"").strip().decode("utf-8", "replace")[:_SUBJECT_KEPT]


def queue_id_of(header: bytes) -> str:
    """Return the message's id in the relay's queue, or an empty string if it is unknown."""
    trace = _first(header, b"received")
    found = _OWN_MESSAGE_ID.search(_first(header, b"message-id") or b"") if trace is None else _ID.search(trace)
    shown = found[1].decode("ascii") if found is not None else ""
    return shown if is_id(shown) else ""


def _first(header: bytes, name: bytes) -> bytes | None:
    """Return the value of the first field of that name, with its folds."""
    block = b"\r\n" + header
    start = block.lower().find(b"\r\n%b:" % name)
    if start < 0:
        return None
    start += len(name) + 3
    end = start
    while True:
        end = block.find(b"\r\n", end)
        if end < 0 or block[end + 2 : end + 3] not in (b" ", b"\t"):
            break
        end += 2
    return block[start:] if end < 0 else block[start:end]
