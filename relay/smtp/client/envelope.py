"""Builds MAIL and RCPT commands for a peer, or the refusal of a recipient that cannot be sent there. Pure functions.

The peer's features determine SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531) and the DSN parameters (RFC 3461).
Every path and parameter is checked again here, just before it is written: an address that contains a CR would inject a
second command (RFC 5321 §4.1.1), however it got into the queue.
"""

import re

import msgspec

from relay.smtp.client.features import Features
from relay.smtp.client.model import Outgoing, OutgoingRecipient
from relay.smtp.domain import normalise
from relay.smtp.reply import Reply

# Local part as atoms or one quoted string, then a domain or literal. No character may end the path or the line.
_PATH = re.compile(r"""(?:[^\s"<>@]+|"(?:[^"\\]|\\[ -~])*")(?:@[^\s"<>@]+)?""")
_PATH_LIMIT = 1000
_NOBODY: frozenset[int] = frozenset()
_XTEXT = re.compile(r"[!-~]{1,500}")
_SEVEN_BIT = Reply(553, "5.6.7", "The next server does not take internationalised addresses or headers (SMTPUTF8)")
_BAD_SENDER = Reply(553, "5.1.7", "The sender's address can't be written as an SMTP path")
_BAD_RECIPIENT = Reply(553, "5.1.3", "The recipient's address can't be written as an SMTP path")


class Envelope(msgspec.Struct):
    """The commands of one transaction."""

    mail: bytes = b""
    rcpts: list[bytes] = msgspec.field(default_factory=list)
    indices: list[int] = msgspec.field(default_factory=list)
    """For each command in `rcpts`, the index of its outgoing recipient."""
    replies: list[Reply | None] = msgspec.field(default_factory=list)
    """For each outgoing recipient: our own refusal, or None if the peer is asked."""

    @property
    def unasked(self) -> frozenset[int]:
        """Indices of the recipients that the peer is not asked about."""
        if len(self.rcpts) == len(self.replies):
            return _NOBODY
        return frozenset(index for index, reply in enumerate(self.replies) if reply is not None)


def plan(outgoing: Outgoing, features: Features) -> Envelope:
    """Return the envelope of `outgoing` for a peer with `features`. If `rcpts` is empty, there is nothing to send."""
    whole = _refusal(outgoing, features)
    if whole is not None:
        return Envelope(replies=[whole] * len(outgoing.recipients))
    utf8 = _needs_utf8(outgoing)
    downgrade = utf8 and not features.smtputf8
    sender = _path(outgoing.sender, downgrade=downgrade) if outgoing.sender else ""
    if not isinstance(sender, str):
        refusal = _BAD_SENDER if sender is _BAD_RECIPIENT else sender
        return Envelope(replies=[refusal] * len(outgoing.recipients))
    envelope = Envelope(mail=_mail(sender, outgoing, features, utf8=utf8 and not downgrade))
    for index, recipient in enumerate(outgoing.recipients):
        path = _path(recipient.address, downgrade=downgrade)
        if isinstance(path, str):
            envelope.rcpts.append(_rcpt(path, recipient, features))
            envelope.indices.append(index)
            envelope.replies.append(None)
        else:
            envelope.replies.append(path)
    return envelope


def _refusal(outgoing: Outgoing, features: Features) -> Reply | None:
    """Return the refusal if the whole message cannot be sent to such a peer, else None."""
    if features.size is not None and outgoing.size > features.size:
        text = f"The message has {outgoing.size} octets, the next server takes at most {features.size}"
        return Reply(552, "5.3.4", text)
    if outgoing.smtputf8 and not features.smtputf8 and not _header(outgoing.head).isascii():
        return _SEVEN_BIT
    return None


def _header(head: bytes) -> bytes:
    return head.partition(b"\r\n\r\n")[0]


def _needs_utf8(outgoing: Outgoing) -> bool:
    """Whether MAIL needs SMTPUTF8. A message declared so does not if its envelope and header are ASCII."""
    if not outgoing.sender.isascii():
        return True
    for recipient in outgoing.recipients:
        if not recipient.address.isascii():
            return True
    return outgoing.smtputf8 and not _header(outgoing.head).isascii()


def _path(address: str, *, downgrade: bool) -> str | Reply:
    """Return the address for angle brackets, with its domain in A-labels on `downgrade`; or the refusal."""
    if len(address) > _PATH_LIMIT or not address.isprintable() or _PATH.fullmatch(address) is None:
        return _BAD_RECIPIENT
    if not downgrade or address.isascii():
        return address
    local, _, domain = address.rpartition("@")
    name = normalise(domain)
    if name is None or not local.isascii():
        return _SEVEN_BIT
    return f"{local}@{name}"


def _mail(sender: str, outgoing: Outgoing, features: Features, *, utf8: bool) -> bytes:
    parts = [f"MAIL FROM:<{sender}>"]
    if features.sized:
        parts.append(f"SIZE={outgoing.size}")
    if outgoing.eightbit and features.eightbit:
        # If not offered, content is sent unchanged anyway: docs/decisions/0003-eight-bit-content-as-it-is.md.
        parts.append("BODY=8BITMIME")
    if utf8:
        parts.append("SMTPUTF8")
    if features.dsn:
        if outgoing.ret in ("FULL", "HDRS"):
            parts.append(f"RET={outgoing.ret}")
        if outgoing.envid and _XTEXT.fullmatch(outgoing.envid):
            parts.append(f"ENVID={outgoing.envid}")
    return (" ".join(parts) + "\r\n").encode()


def _rcpt(path: str, recipient: OutgoingRecipient, features: Features) -> bytes:
    command = f"RCPT TO:<{path}>"
    if features.dsn:
        if recipient.notify and _XTEXT.fullmatch(recipient.notify):
            command += f" NOTIFY={recipient.notify}"
        if recipient.orcpt and _XTEXT.fullmatch(recipient.orcpt):
            command += f" ORCPT={recipient.orcpt}"
    return (command + "\r\n").encode()
