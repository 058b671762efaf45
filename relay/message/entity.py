"""What a header says about its content (RFC 2045, RFC 2046), as far as the repair of long lines needs it.

Pure. Nothing is guessed: contradictory or unknown content is OPAQUE, whose repair does not depend on the content.
"""

import enum
import re

import msgspec

from relay.message.headers import Header


class Kind(enum.Enum):
    """The kind of the content."""

    PLAIN = enum.auto()
    """Not encoded, so it may be encoded as quoted-printable without loss."""
    QUOTED = enum.auto()
    BASE64 = enum.auto()
    MULTIPART = enum.auto()
    MESSAGE = enum.auto()
    """A message with a header of its own."""
    OPAQUE = enum.auto()
    """Not to be encoded: unknown, contradictory, or protected by a signature."""


class Entity(msgspec.Struct, frozen=True):
    """A message, or a part of one."""

    kind: Kind
    boundary: bytes = b""
    """Boundary of a MULTIPART."""
    digest: bool = False
    """Whether parts are messages by default (RFC 2046 §5.1.5)."""
    signed: bool = False
    """Whether the content, including all nested parts, is signed or encrypted. Encoding it would break that."""


_TYPE = re.compile(rb"[ \t]*([!-'*+\-.0-9A-Z^-~]+)/([!-'*+\-.0-9A-Z^-~]+)[ \t]*(?=;|\(|$)", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*([^\s=;"]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.)*+"|[^;]*+)')
_ESCAPE = re.compile(rb"\\(.)")
_ENCODING = re.compile(rb"[ \t]*([!-'*+\-./0-9A-Z^-~]+)[ \t]*(?:\([^()]*\)[ \t]*)?;?", re.IGNORECASE)
_BOUNDARY_MAX = 1 << 14
_COMPOSITE = re.compile(rb"multipart|message", re.IGNORECASE)

_KINDS = {
    b"": Kind.PLAIN,
    b"7bit": Kind.PLAIN,
    b"8bit": Kind.PLAIN,
    b"binary": Kind.PLAIN,
    b"quoted-printable": Kind.QUOTED,
    b"base64": Kind.BASE64,
}
_PROTECTED = frozenset(
    {
        b"multipart/signed",
        b"multipart/encrypted",
        b"application/pgp",
        b"application/pgp-encrypted",
        b"application/pgp-signature",
        b"application/pkcs7-mime",
        b"application/pkcs7-signature",
        b"application/x-pkcs7-mime",
        b"application/x-pkcs7-signature",
    }
)
_UNKNOWN_CONTAINER = b"multipart/"
"""Stands for an unknown type."""
_MESSAGES = frozenset({b"message/rfc822", b"message/global"})
_HEADERS = frozenset({b"text/rfc822-headers", b"message/global-headers"})
"""Content that consists of header fields, in which a CRLF and a space are a fold."""


def describe(header: Header, *, in_digest: bool = False) -> Entity:
    """Describe the content of a header. `in_digest` means that it belongs to a part of a multipart/digest."""
    if header.problem is not None or header.overflow:
        return Entity(Kind.OPAQUE)
    media, parameters = _media(header, b"message/rfc822" if in_digest else b"text/plain")
    signed = b"dkim-signature" in header.names or media in _PROTECTED
    kind = _encoded(header)
    if media.startswith(b"multipart/"):
        boundary = _boundary(parameters)
        if kind is not Kind.PLAIN or boundary is None:
            return Entity(Kind.OPAQUE, signed=signed)
        return Entity(Kind.MULTIPART, boundary, media == b"multipart/digest", signed)
    if kind is Kind.PLAIN:
        if media in _MESSAGES:
            kind = Kind.MESSAGE
        elif media.startswith(b"message/") or media in _HEADERS:
            kind = Kind.OPAQUE
    return Entity(kind, signed=signed)


def _media(header: Header, default: bytes) -> tuple[bytes, bytes]:
    """Return the media type in lower case, and the parameters."""
    value = header.value(b"content-type")
    if value is None:
        return default, b""
    if header.count(b"content-type") > 1:
        return _UNKNOWN_CONTAINER, b""
    value = value.replace(b"\r\n", b"")
    match = _TYPE.match(value)
    if match is None:
        # Programs read such a field as text/plain (RFC 2045 §5.2), unless it looks like a container.
        return _UNKNOWN_CONTAINER if _COMPOSITE.search(value) else b"text/plain", b""
    return b"%b/%b" % (match[1].lower(), match[2].lower()), value[match.end() :]


def _encoded(header: Header) -> Kind:
    """Return the kind given by the Content-Transfer-Encoding."""
    if header.count(b"content-transfer-encoding") > 1:
        return Kind.OPAQUE
    value = header.value(b"content-transfer-encoding")
    if value is None or not (value := value.replace(b"\r\n", b"").strip(b" \t")):
        return Kind.PLAIN
    match = _ENCODING.fullmatch(value)
    return Kind.OPAQUE if match is None else _KINDS.get(match[1].lower(), Kind.OPAQUE)


def _boundary(parameters: bytes) -> bytes | None:
    """Return the boundary, or None if there is none or if programs would disagree about it."""
    found: list[bytes] = []
    for name, value in _PARAMETER.findall(parameters):
        if name.lower() == b"boundary":
            if value.startswith(b'"'):
                found.append(_ESCAPE.sub(rb"\1", value[1:-1]).rstrip(b" \t"))
            else:
                found.append(value.split()[0] if value.strip() else b"")
        elif name.lower().startswith(b"boundary*"):
            return None
    if len(found) != 1 or not 0 < len(found[0]) <= _BOUNDARY_MAX:
        return None
    return found[0]
