"""Domain names in settings: letters, digits and hyphens in dotted labels (RFC 1123 §2.1, RFC 5890).

Names of other hosts may also contain underscores: the DNS permits them (RFC 2181 §11), and container names like `web_1`
have them.
"""

import ipaddress
import re
from typing import Final

_STREAM = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,30}[a-z0-9])?")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_LABEL_OF_OTHERS: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_LONGEST: Final = 253
"""Maximum length of a name as text, in bytes (RFC 1035 §2.3.4: 255 octets on the wire)."""


class BadNameError(ValueError):
    """A text is not a valid name, endpoint, network or pattern; the message says what to write instead."""


def check_domain(name: str, *, underscores: bool = False) -> None:
    """Raise `BadNameError` unless `name` is a domain name in ASCII, without a final dot."""
    if not name.isascii():
        label = _a_label(name)
        raise BadNameError(f'write it in its ASCII form: "{label}"' if label else "write it in its ASCII form (xn--…)")
    if name.endswith("."):
        raise BadNameError("leave out the final dot")
    if is_address(name):
        raise BadNameError("write a name, not an address")
    labels = name.split(".")
    grammar = _LABEL_OF_OTHERS if underscores else _LABEL
    if len(name) > _LONGEST or not all(grammar.fullmatch(label) for label in labels):
        raise BadNameError("write a domain name: labels of letters, digits and hyphens, like mail.example.com")
    if labels[-1].isdecimal():
        raise BadNameError("write a domain name; its last label cannot be a number")


def check_selector(name: str) -> None:
    """Raise `BadNameError` unless `name` can stand before `._domainkey` (RFC 6376 §3.1)."""
    if len(name) > _LONGEST or not all(_LABEL_OF_OTHERS.fullmatch(label) for label in name.split(".")):
        raise BadNameError('write letters, digits, hyphens and dots, like "relay" or "2026.mail"')


def check_stream(name: str) -> None:
    """Raise `BadNameError` unless `name` is a valid stream name."""
    if _STREAM.fullmatch(name) is None:
        raise BadNameError('write at most 32 lower-case letters, digits, "-" and "_", like "newsletter"')


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _a_label(name: str) -> str | None:
    # IDNA 2008, as for addresses: the standard library's codec (IDNA 2003) would map "ß" to another domain.
    import idna

    try:
        return idna.encode(name, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return None
