"""Fixes submitted headers: adds or removes fields, or refuses the message (RFC 6409 §6 and §8).

Pure: header bytes and facts in, a fixed header or a refusal out. MIME fields are never changed. Duplicate and malformed
fields are refused because programs disagree on which one counts, which is used to trick signatures and filters
(RFC 6376 §8.15). They are not repaired, since only the sender knows which one was meant.

Only cases with a single meaning are repaired: a From in bad syntax (`relay.message.authors`), empty Date and Message-ID
fields, and the output of local programs if `submission.default_domain` is set. `docs/reference/repairs.md` lists all
repairs; keep it complete.
"""

import re

import msgspec

from relay.message.authors import complete, read
from relay.message.date import stamp
from relay.message.fold import fold
from relay.message.headers import Header
from relay.message.mailboxes import Mailbox, MailboxError, parse
from relay.smtp.reply import Reply

_REMOVED = (b"bcc", b"resent-bcc", b"return-path")
_SINGLE = (b"subject", b"to", b"cc", b"date", b"message-id", b"reply-to", b"sender")
_SINGLE_NAMES = {name: name.decode().title().replace("-Id", "-ID") for name in _SINGLE}
_BLANK_FOLD = re.compile(rb"(?:\r\n[ \t]++)+(?=\r\n)")
_MBOX_START = (b"From ", b">From")
# The sender's address, then a date with a day of the week or a time of day. A From field without a colon never matches.
_MBOX_LINES = re.compile(
    rb"(?:>?From [ \t]*+[^ \t:\r\n][^\r\n]*?[ \t](?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b|\d\d?:\d\d)[^\r\n]*+\r\n)+"
)
# The line is removed only if an administrator declared that local programs send through the relay. Otherwise it shows
# that the client does not send a proper message.
_MBOX_REFUSED = (
    "The message begins with the separator line of an mbox file (From user date), which is malformed in a header; "
    "leave it out, or set submission.default_domain"
)
_LOCAL_NAMES = (b"to", b"cc", b"reply-to", b"sender")
"""Fields whose addresses are completed by `submission.default_domain`. From is completed when it is parsed."""


class Facts(msgspec.Struct, frozen=True):
    """The facts that the fixes need."""

    id: str
    """The queue id, for a Message-ID."""
    hostname: str
    now: float
    fields: int = 1000
    """Maximum number of fields (`limits.header_fields`)."""
    received_fields: int = 50
    """Maximum number of Received fields (`limits.received_fields`)."""
    default_domain: str | None = None
    """Domain for addresses without one (`submission.default_domain`)."""


class Fixed(msgspec.Struct, frozen=True):
    """An accepted header."""

    header: Header
    authors: tuple[Mailbox, ...]
    """The mailboxes of From, at least one. The first decides the signing domain."""


def fix(block: bytes, facts: Facts) -> Fixed | Reply:
    """Fix a submitted header block (with its blank line), or return a refusal that says what is wrong with it."""
    if block[:5] in _MBOX_START and _MBOX_LINES.match(block):
        if facts.default_domain is None:
            return _refuse(_MBOX_REFUSED)
        block = _MBOX_LINES.sub(b"", block, count=1)
    header = Header.scan(_without_blank_folds(block), facts.fields)
    refusal = _refusal(header, facts)
    if refusal is not None:
        return refusal
    authors = _authors(header, facts.default_domain)
    if isinstance(authors, Reply):
        return authors
    names = header.names
    for name in _REMOVED:
        if name in names:
            header.remove(name)
    if facts.default_domain is not None:
        _complete_addresses(header, facts.default_domain)
    _complete(header, facts)
    return Fixed(header, authors)


def _without_blank_folds(block: bytes) -> bytes:
    """Drop continuation lines of only white space (RFC 5322 §4.2), which many programs take for the header's end.

    Unfolding turns such a line into white space within a value, so dropping it changes nothing for correct programs.
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
        _drop_empty(header)
        for name in _SINGLE:
            if header.count(name) > 1:
                return _refuse(f"The message has more than one {_SINGLE_NAMES[name]} field; send exactly one")
    return None


def _authors(header: Header, default_domain: str | None) -> tuple[Mailbox, ...] | Reply:
    value = header.value(b"from")
    if value is None:
        return _refuse("The message has no From field; add one with the author's address")
    if header.names.count(b"from") > 1:
        return _refuse("The message has more than one From field; send exactly one")
    try:
        authors, rewritten = read(value, default_domain)
    except MailboxError as error:
        return _refuse(f"The From field is malformed: {error}")
    if rewritten is not None:
        header.replace(b"from", fold(b"From:%b\r\n" % rewritten))
    if not authors:
        return _refuse("The From field has no address; name the author's")
    if len(authors) > 1:
        return _check_sender(header, authors)
    return authors


def _check_sender(header: Header, authors: tuple[Mailbox, ...]) -> tuple[Mailbox, ...] | Reply:
    """Check that a message with several authors has one responsible Sender (RFC 5322 §3.6.2)."""
    value = header.value(b"sender")
    if value is None:
        return _refuse("The From field has several addresses; add a Sender field with the one who sends")
    try:
        if len(parse(value)) != 1:
            return _refuse("The Sender field must have exactly one address")
    except MailboxError as error:
        return _refuse(f"The Sender field is malformed: {error}")
    return authors


def _complete_addresses(header: Header, domain: str) -> None:
    """Complete addresses without a domain in all fields but From."""
    for n, name in enumerate(header.names):
        if name in _LOCAL_NAMES:
            value = header.fields[n][len(name) + 1 : -2]
            # One address with a domain is the usual case.
            if b"@" not in value or b"," in value or b";" in value:
                header.fields[n] = b"%b%b\r\n" % (header.fields[n][: len(name) + 1], complete(value, domain))


def _drop_empty(header: Header) -> None:
    """Remove empty Date and Message-ID fields: some programs write them and expect them to be filled in."""
    for name in (b"date", b"message-id"):
        kept = [n for n, other in enumerate(header.names) if other != name or not _empty(header.fields[n])]
        if len(kept) != len(header.names):
            header.names, header.fields = [header.names[n] for n in kept], [header.fields[n] for n in kept]


def _empty(field: bytes) -> bool:
    """Whether the value consists only of white space and angle brackets around it."""
    return not field[field.index(b":") + 1 :].strip(b" \t\r\n<>")


def _complete(header: Header, facts: Facts) -> None:
    names, fields = header.names, header.fields
    dated, identified = b"date" in names, b"message-id" in names
    if (dated and _empty(fields[names.index(b"date")])) or (identified and _empty(fields[names.index(b"message-id")])):
        _drop_empty(header)
        dated, identified = b"date" in header.names, b"message-id" in header.names
    if not dated:
        header.append(b"date", b"Date: %b\r\n" % stamp(facts.now).encode())
    if not identified:
        header.append(b"message-id", b"Message-ID: <%b@%b>\r\n" % (facts.id.encode(), facts.hostname.encode()))


def _refuse(sentence: str) -> Reply:
    return Reply(554, "5.6.0", sentence)
