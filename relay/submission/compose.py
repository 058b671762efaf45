"""Convert a received message to what the queue stores: header, Received, flags, envelope. Pure except for `Incoming`.

Signing is a separate step (`Draft.sign`), because it may be slow enough to need a thread.
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
"""Maximum bytes of a body whose long lines are repaired on the event loop; this takes a few milliseconds at most."""


class Draft(msgspec.Struct):
    """An accepted message that is not yet signed."""

    header: Header
    """The fixed header, without our Received field."""
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
        """Whether `sign` should run in a thread: it has a slow key, must read a file, or must repair a large body."""
        content = self.content
        return (
            content.file is not None
            or (self.signer is not None and self.signer.slow)
            or (content.long_lines and content.body_size > _QUICK)
        )

    def sign(self) -> None:
        """Repair long lines, then read the body once to sign it and to check for bytes above 127.

        May run in a thread. Raises `NoRoomError` if there is no disk space for a repaired body.
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
        """Shorten all lines to at most 998 bytes, as far as this is possible without damaging the message."""
        content = self.content
        body = content.octets()
        found = plan(self.header, body)
        if found.edits:
            content.replace_body(repaired(body, found.edits))
        repair_header(self.header, quote=found.quote)

    def put(self) -> Put:
        """The message as the queue stores it; sets its `size` and `eightbit`."""
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
    """Combine envelope, fixed header and our Received field into a draft."""
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
    """Whether the next server must support SMTPUTF8; RFC 6531 §3.4 requires it only for internationalised messages.

    If a message sent without SMTPUTF8 has bytes above 127 in its header, they are passed on unchanged and SMTPUTF8 is
    not required.
    """
    return not (
        transaction.sender.isascii()
        and all(path.address.isascii() for path in transaction.recipients)
        and all(field.isascii() for field in header.fields)
    )
