"""What submission does to a header: fields added, removed, or the message refused (RFC 6409 §6 and §8).

Pure: header octets and facts in, a fixed header or a refusal out. MIME fields are never touched. The rules on duplicate
and malformed fields exist because programs disagree on which one counts, which is how signatures and filters are
tricked (RFC 6376 §8.15); they are refused rather than mended, since only the sender knows which one was meant.
"""

import re

import msgspec

from relay.message.date import stamp
from relay.message.headers import Header
from relay.message.mailboxes import Mailbox, MailboxError, parse
from relay.smtp.reply import Reply

_REMOVED = (b"bcc", b"resent-bcc", b"return-path")
_SINGLE = (b"subject", b"to", b"cc", b"date", b"message-id", b"reply-to", b"sender")
_SINGLE_NAMES = {name: name.decode().title().replace("-Id", "-ID") for name in _SINGLE}
_BLANK_FOLD = re.compile(rb"(?:\r\n[ \t]++)+(?=\r\n)")


class Facts(msgspec.Struct, frozen=True):
    """What the fixes need to know."""

    id: str
    """The queue id, for a Message-ID."""
    hostname: str
    now: float
    fields: int = 1000
    """Most fields (`limits.header_fields`)."""
    received_fields: int = 50
    """Most Received fields (`limits.received_fields`)."""


class Fixed(msgspec.Struct, frozen=True):
    """An accepted header."""

    header: Header
    authors: tuple[Mailbox, ...]
    """The mailboxes of From, at least one. The first decides the signing domain."""


def fix(block: bytes, facts: Facts) -> Fixed | Reply:
    """Fix a submitted header block (with its blank line), or say what is wrong with it."""
    header = Header.scan(_without_blank_folds(block), facts.fields)
    refusal = _refusal(header, facts)
    if refusal is not None:
        return refusal
    authors = _authors(header)
    if isinstance(authors, Reply):
        return authors
    names = header.names
    for name in _REMOVED:
        if name in names:
            header.remove(name)
    _complete(header, facts)
    return Fixed(header, authors)


def _without_blank_folds(block: bytes) -> bytes:
    """Drop continuation lines of blanks only (RFC 5322 §4.2): many programs take them for the end of the header.

    Unfolding turns such a line into blanks within a value, so dropping it changes nothing for those that read it well.
    """
    if b" \r\n" not in block and b"\t\r\n" not in block:
        return block
    return _BLANK_FOLD.sub(b"", block)


def _refusal(header: Header, facts: Facts) -> Reply | None:
    if header.problem is not None:
        return _refuse(f"The message's header is malformed: {header.problem}")
    if header.overflow:
        return _refuse(f"The message's header has more than {facts.fields} fields")
    names = header.names
    if names.count(b"received") > facts.received_fields:
        return Reply(
            554,
            "5.4.6",
            f"Mail loop: the message has over {facts.received_fields} Received fields; check where it is forwarded",
        )
    if len(set(names)) != len(names):
        for name in _SINGLE:
            if names.count(name) > 1:
                return _refuse(f"The message has more than one {_SINGLE_NAMES[name]} field; send exactly one")
    return None


def _authors(header: Header) -> tuple[Mailbox, ...] | Reply:
    value = header.value(b"from")
    if value is None:
        return _refuse("The message has no From field; add one with the author's address")
    if header.names.count(b"from") > 1:
        return _refuse("The message has more than one From field; send exactly one")
    try:
        authors = parse(value)
    except MailboxError as error:
        return _refuse(f"The From field is malformed: {error}")
    if not authors:
        return _refuse("The From field has no address; name the author's")
    if len(authors) > 1:
        return _check_sender(header, authors)
    return authors


def _check_sender(header: Header, authors: tuple[Mailbox, ...]) -> tuple[Mailbox, ...] | Reply:
    """Several authors need one Sender who is responsible (RFC 5322 §3.6.2)."""
    value = header.value(b"sender")
    if value is None:
        return _refuse("The From field has several addresses; add a Sender field with the one who sends")
    try:
        if len(parse(value)) != 1:
            return _refuse("The Sender field must have exactly one address")
    except MailboxError as error:
        return _refuse(f"The Sender field is malformed: {error}")
    return authors


def _complete(header: Header, facts: Facts) -> None:
    names = header.names
    if b"date" not in names:
        header.append(b"date", b"Date: %b\r\n" % stamp(facts.now).encode())
    if b"message-id" not in names:
        header.append(b"message-id", b"Message-ID: <%b@%b>\r\n" % (facts.id.encode(), facts.hostname.encode()))


def _refuse(sentence: str) -> Reply:
    return Reply(554, "5.6.0", sentence)
