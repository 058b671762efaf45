"""The Received field that the relay adds (RFC 5321 §4.4; `with` forms of RFC 3848 and RFC 6531 §4.3).

The field always contains the client's address, authenticated or not: abuse desks need it, and spammers' relays leave it
out. It never contains the user's name. Values chosen by a client (HELO, recipient) are reduced to harmless characters,
so that they cannot forge a field, line or comment.
"""

import msgspec

from relay.message.date import stamp

_HELO_OCTETS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]")
_HELO_TABLE = bytes(octet if octet in _HELO_OCTETS else ord("?") for octet in range(256))
_HELO_MAX = 255
_CIPHER_OCTETS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_ ")
_CIPHER_TABLE = bytes(octet if octet in _CIPHER_OCTETS else ord("?") for octet in range(256))
_PATH_MAX = 254


class Hop(msgspec.Struct, frozen=True):
    """The facts of one receipt."""

    helo: str
    """Argument of EHLO or HELO, as the client gave it."""
    address: str
    """The client's IP address."""
    extended: bool
    """Whether EHLO was used."""
    tls: str | None
    """Protocol version and cipher."""
    authenticated: bool
    smtputf8: bool
    """Whether SMTPUTF8 was declared for the transaction."""
    hostname: str
    """Our own name."""
    id: str
    """The queue id."""
    recipient: str | None
    """The recipient if there is exactly one. Several are never shown, because they may be blind copies."""
    at: float
    """Time of receipt, in seconds since the epoch."""


def protocol(hop: Hop) -> str:
    """Return the `with` keyword."""
    if hop.smtputf8:
        base = "UTF8SMTP"
    elif hop.extended:
        base = "ESMTP"
    else:
        # RFC 3848 defines S and A only for ESMTP, because STARTTLS and AUTH need EHLO.
        return "SMTP"
    return f"{base}{'S' if hop.tls else ''}{'A' if hop.authenticated else ''}"


def received(hop: Hop) -> bytes:
    """Return the whole field, folded, with its CRLF."""
    literal = f"[IPv6:{hop.address}]" if ":" in hop.address else f"[{hop.address}]"
    helo = hop.helo[:_HELO_MAX].encode("ascii", "replace").translate(_HELO_TABLE).decode("ascii")
    tls = ""
    if hop.tls:
        tls = f" ({hop.tls.encode('ascii', 'replace').translate(_CIPHER_TABLE).decode('ascii')})"
    path = "" if hop.recipient is None else _for(hop.recipient, hop.smtputf8)
    return (
        f"Received: from {helo or literal} ({literal})\r\n"
        f"\tby {hop.hostname} with {protocol(hop)}{tls}\r\n"
        f"\tid {hop.id}{path};\r\n"
        f"\t{stamp(hop.at)}\r\n"
    ).encode()


def _for(recipient: str, smtputf8: bool) -> str:
    """Return the `for` clause, or an empty string if the address cannot be shown safely."""
    if len(recipient) > _PATH_MAX or not recipient.isprintable() or "<" in recipient or ">" in recipient:
        return ""
    if not (smtputf8 or recipient.isascii()):
        return ""
    return f"\r\n\tfor <{recipient}>"
