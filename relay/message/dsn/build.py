"""Builds a notification as a message ready for the queue: content, envelope, signature.

The `email` package is not used, because the original must be returned unchanged. Nothing here decides when to notify,
except that recipients who must not be reported are left out (`wanted`).
"""

import binascii
import re
from dataclasses import dataclass
from typing import cast

from relay.message.date import stamp
from relay.message.dkim.canonical import body_hash
from relay.message.dkim.sign import DomainSigner, KeyRing
from relay.message.dsn import words
from relay.message.dsn.fields import decoded
from relay.message.dsn.status import status
from relay.message.dsn.wanted import Kind, returned_whole, wanted
from relay.message.headers import Header
from relay.smtp.address import Path, parse_address
from relay_config.schema import Settings
from relay_config.streams import Streams
from relay_queue.ids import new_id
from relay_queue.model import Body, Entry, Message, Put, Recipient

_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}>")


@dataclass(slots=True, frozen=True)
class _Part:
    """One MIME part."""

    type: str
    encoding: str
    """Content-Transfer-Encoding; `7bit` is left out."""
    octets: bytes
    """With CRLF line ends."""

    def to_bytes(self) -> bytes:
        head = f"Content-Type: {self.type}\r\n"
        if self.encoding != "7bit":
            head += f"Content-Transfer-Encoding: {self.encoding}\r\n"
        return head.encode("ascii") + b"\r\n" + self.octets


class DsnFactory:
    """Builds notifications with the current settings."""

    def __init__(self, settings: Settings, keys: KeyRing) -> None:
        self.reload(settings, keys)

    def reload(self, settings: Settings, keys: KeyRing) -> None:
        """Use new settings and keys from now on."""
        self._settings, self._keys, self._streams = settings, keys, Streams(settings)

    def build(self, kind: str, entry: Entry, original: bytes, now: float) -> Put | None:
        """See `build`."""
        hostname, message = self._settings.hostname, entry.message
        retry = self._streams.retry(message.stream, message.received_at, message.expires_at)
        return build(
            kind,
            entry,
            original,
            hostname=hostname,
            now=now,
            expires_at=message.received_at + retry.expire_after,
            signer=self._keys.find(hostname.lower()),
        )


def build(
    kind: str,
    entry: Entry,
    original: bytes,
    *,
    hostname: str,
    now: float,
    expires_at: float | None = None,
    signer: DomainSigner | None = None,
) -> Put | None:
    """Build the notification of `kind` about the recipients of `entry` for which it is wanted; None if there are none.

    `original` is the message, or at least its header block with the blank line. The result is sent from the null sender
    to the original sender, with NOTIFY=NEVER.
    """
    message = entry.message
    told = [recipient for recipient in entry.recipients if wanted(kind, recipient, message)]
    path = parse_address(message.sender) if told else ""
    if isinstance(path, str):
        return None
    kind = cast("Kind", kind)
    utf8 = message.smtputf8 or not all(recipient.address.isascii() for recipient in told) or not path.ascii
    header_end = original.find(b"\r\n\r\n")
    header = Header.scan(original if header_end < 0 else original[: header_end + 4])
    subject = decoded(header.value(b"subject") or b"")
    facts = words.Facts(kind, hostname, message.received_at, subject, expires_at)
    report = status(kind, message, told, hostname=hostname, expires_at=expires_at, utf8=utf8)
    parts = [
        _text_part(words.text(facts, told)),
        _status_part(report, utf8=utf8),
        _original_part(kind, message, original, header, utf8=utf8),
    ]
    dsn_id = new_id(now)
    octets = _assemble(kind, dsn_id, message.sender, hostname, now, header, parts, signer)
    return Put(_entry(dsn_id, path, octets, hostname=hostname, now=now, utf8=utf8), Body(octets))


def _entry(dsn_id: str, path: Path, octets: bytes, *, hostname: str, now: float, utf8: bool) -> Entry:
    """Return the envelope of a notification: from the null sender to the original sender."""
    message = Message(
        id=dsn_id,
        received_at=now,
        sender="",
        size=len(octets),
        origin="dsn",
        eightbit=not octets.isascii(),
        smtputf8=utf8,
        header_id=_header_id(dsn_id, hostname),
    )
    recipient = Recipient(
        message_id=dsn_id,
        n=0,
        address=path.address,
        domain=path.domain,
        notify="NEVER",
        due_at=now,
        changed_at=now,
    )
    return Entry(message, [recipient])


def _text_part(text: str) -> _Part:
    octets = text.encode("utf-8")
    if octets.isascii():
        return _Part("text/plain; charset=utf-8", "7bit", octets.replace(b"\n", b"\r\n"))
    # Quoted-printable, so that a few letters of a subject do not require 8BITMIME of the sender's server.
    return _Part("text/plain; charset=utf-8", "quoted-printable", binascii.b2a_qp(octets).replace(b"\n", b"\r\n"))


def _status_part(report: str, *, utf8: bool) -> _Part:
    if utf8:
        return _Part("message/global-delivery-status", "8bit", report.encode("utf-8"))
    return _Part("message/delivery-status", "7bit", report.encode("ascii"))


def _original_part(kind: Kind, message: Message, original: bytes, header: Header, *, utf8: bool) -> _Part:
    """Return the whole message if it was requested, is permitted and is available; otherwise its header."""
    whole = returned_whole(kind, message) and len(original) == message.size
    octets = original if whole else b"".join(header.fields)
    if utf8:
        name = "message/global" if whole else "message/global-headers"
    else:
        name = "message/rfc822" if whole else "text/rfc822-headers"
    return _Part(name, "7bit" if octets.isascii() else "8bit", octets)


def _assemble(
    kind: Kind,
    dsn_id: str,
    recipient: str,
    hostname: str,
    now: float,
    original: Header,
    parts: list[_Part],
    signer: DomainSigner | None,
) -> bytes:
    # The id has 74 new random bits, so no text from outside can contain the boundary.
    boundary = f"=_relay_{dsn_id}"
    head = (
        f"From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\n"
        f"To: <{recipient}>\r\n"
        f"Subject: {words.SUBJECTS[kind]}\r\n"
        f"Date: {stamp(now)}\r\n"
        f"Message-ID: {_header_id(dsn_id, hostname)}\r\n"
        f"{_threading(original)}"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: multipart/report; report-type=delivery-status;\r\n"
        f'\tboundary="{boundary}"\r\n'
    )
    if not all(part.octets.isascii() for part in parts):
        head += "Content-Transfer-Encoding: 8bit\r\n"
    header = head.encode("utf-8") + b"\r\n"
    delimiter = f"--{boundary}".encode("ascii")
    pieces = [b"This is a report in MIME form.\r\n"]
    for part in parts:
        pieces += [b"\r\n", delimiter, b"\r\n", part.to_bytes()]
    pieces += [b"\r\n", delimiter, b"--\r\n"]
    body = b"".join(pieces)
    signature = b"" if signer is None else signer.sign(Header.scan(header), body_hash([body]), now)
    return signature + header + body


def _header_id(dsn_id: str, hostname: str) -> str:
    return f"<{dsn_id}@{hostname}>"


def _threading(original: Header) -> str:
    """Refer to the original, so that mail programs show the two together (RFC 3834 §3.1.5)."""
    match = _MESSAGE_ID.fullmatch((original.value(b"message-id") or b"").strip())
    if match is None:
        return ""
    message_id = match.group().decode("ascii")
    return f"In-Reply-To: {message_id}\r\nReferences: {message_id}\r\n"
