"""From what a session took in to what the queue stores: header, Received, flags, envelope. Pure but for `Incoming`.

Signing is apart (`Draft.sign`), because it may be slow enough for a thread.
"""

from collections.abc import Iterable
from pathlib import PurePath

import msgspec

from relay.message.dkim.canonical import BodyHash
from relay.message.dkim.sign import DomainSigner
from relay.message.fix import Facts, Fixed
from relay.message.headers import Header
from relay.message.incoming import Incoming
from relay.message.long_lines import plan, repair_header, repaired
from relay.message.message_id import message_id as header_id
from relay.message.received import Hop, received
from relay.model.peer import Peer
from relay.model.transaction import Transaction
from relay_queue.model import Body, Entry, Message, Put, Recipient

_QUICK = 1 << 15
"""Bytes of a body whose long lines are repaired on the event loop: a few milliseconds at most."""


class Draft(msgspec.Struct):
    """An accepted message that is not yet signed."""

    header: Header
    """Fixed, without our Received."""
    trace: bytes
    """Our Received field."""
    content: Incoming
    message: Message
    """`size` and `eightbit` are filled in by `put`."""
    recipients: list[Recipient]
    signer: DomainSigner | None
    now: float
    signature: bytes = b""

    @property
    def slow(self) -> bool:
        """`sign` takes long enough to be worth a thread: a slow key, a file to be read, or a large repair."""
        content = self.content
        return (
            content.file is not None
            or (self.signer is not None and self.signer.slow)
            or (content.long_lines and content.body_size > _QUICK)
        )

    def sign(self) -> None:
        """Repair long lines, then read the body once: sign it, and see whether it has octets above 127.

        May run in a thread. Raises `NoRoomError` when there is no room for a repaired body.
        """
        if self.content.long_lines:
            self._repair()
        if self.signer is None and self.content.file is None:
            self.message.eightbit = self.message.eightbit or not self.content.body().isascii()
            return
        state = BodyHash()
        eightbit = self.message.eightbit
        for block in self._blocks():
            eightbit = eightbit or not block.isascii()
            if self.signer is not None:
                state.update(block)
        self.message.eightbit = eightbit
        if self.signer is not None:
            self.signature = self.signer.sign(self.header, state.digest(), self.now)

    def _repair(self) -> None:
        """Bring all lines below 998 bytes, as far as that is possible without damage."""
        content = self.content
        body = content.octets()
        found = plan(self.header, body)
        if found.edits:
            content.replace_body(repaired(body, found.edits))
        repair_header(self.header, quote=found.quote)

    def put(self) -> Put:
        """What the queue stores."""
        head = b"".join([self.trace, self.signature, self.header.to_bytes()])
        self.message.eightbit = self.message.eightbit or not head.isascii()
        self.message.size = len(head) + self.content.body_size
        entry = Entry(self.message, self.recipients)
        file = self.content.file
        if file is None:
            return Put(entry, Body(head + self.content.body()))
        return Put(entry, Body(head, PurePath(file.name).name, self.content.body_size))

    def _blocks(self) -> Iterable[bytes]:
        return self.content.body_blocks() if self.content.file is not None else (self.content.body(),)


def draft(
    peer: Peer,
    transaction: Transaction,
    content: Incoming,
    fixed: Fixed,
    facts: Facts,
    signer: DomainSigner | None,
    stream: str,
) -> Draft:
    """Join envelope, fixed header and trace."""
    now, message_id = facts.now, facts.id
    paths = transaction.recipients
    trace = received(
        Hop(
            helo=peer.helo,
            address=peer.address,
            extended=peer.extended,
            tls=peer.tls,
            authenticated=peer.identity is not None,
            smtputf8=transaction.smtputf8,
            hostname=facts.hostname,
            id=message_id,
            recipient=paths[0].address if len(paths) == 1 else None,
            at=now,
        )
    )
    message = Message(
        id=message_id,
        received_at=now,
        sender=transaction.sender,
        size=0,
        user=None if peer.identity is None else peer.identity.user,
        envid=transaction.envid,
        ret=transaction.ret,
        eightbit=transaction.eightbit,
        smtputf8=transaction.smtputf8 and _needs_smtputf8(transaction, fixed.header),
        header_id=header_id(fixed.header),
        stream=stream,
    )
    recipients = [
        Recipient(
            message_id=message_id,
            n=n,
            address=path.address,
            domain=path.domain,
            stream=stream,
            notify=path.notify,
            orcpt=path.orcpt,
            due_at=now,
            changed_at=now,
        )
        for n, path in enumerate(paths)
    ]
    return Draft(fixed.header, trace, content, message, recipients, signer, now)


def _needs_smtputf8(transaction: Transaction, header: Header) -> bool:
    """Whether the next server must know SMTPUTF8 too: RFC 6531 §3.4 asks it only of what really is international.

    Octets above 127 in the header of a message sent without SMTPUTF8 are passed as they came; that is no reason to
    demand it.
    """
    return not (
        transaction.sender.isascii()
        and all(path.address.isascii() for path in transaction.recipients)
        and all(field.isascii() for field in header.fields)
    )
