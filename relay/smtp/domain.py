"""Domains as they appear in addresses and greetings: checked, and converted to canonical form.

The canonical form is the lower-case A-label name (RFC 5890), or an address literal in canonical spelling with brackets.
All comparisons of domains rely on it, so spelling tricks (case, full-width dots, homoglyphs) cannot make two different
domains compare equal, or one domain appear as two. Must not resolve anything.

Underscores are allowed in names. Host names must not contain them (RFC 1123 §2.1), but the DNS permits them (RFC 2181
§11) and they are in use: containers are called `web_1`, and mail is sent to such domains.
"""

import ipaddress
import re

import idna

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?:{_LABEL}\.)*({_LABEL})")
_A_LABEL = re.compile(r"(?:^|\.)xn--([a-z0-9-]*)")
_DOTS = re.compile("[.\u3002\uff0e\uff61]")
"""Label separators (RFC 3490 §3.1)."""

_CACHE_SIZE = 20_000
_cache: dict[str, str | None] = {}


def normalise(domain: str) -> str | None:
    """The canonical form of a domain, or None if it is not valid (RFC 5321 §4.1.2, RFC 6531 §3.3).

    Accepts names, U-labels and literals such as `[192.0.2.1]`. Results are cached because the same domains recur.
    """
    try:
        return _cache[domain]
    except KeyError:
        pass
    found = _literal(domain) if domain.startswith("[") else _name(domain)
    if len(_cache) >= _CACHE_SIZE:
        # Clearing the whole cache is cheaper than tracking recency on each hit; a flood of invented domains only causes
        # cache misses.
        _cache.clear()
    if len(domain) <= 255:
        _cache[domain] = found
    return found


def _name(domain: str) -> str | None:
    """A host name in A-labels."""
    if not domain or len(domain) > 255:
        return None
    if domain.isascii():
        name = domain.lower()
    elif not domain.isprintable():
        # The mapping would remove invisible characters and produce an address that looks like a different one.
        return None
    else:
        try:
            name = _a_labels(domain)
        except (idna.IDNAError, UnicodeError):
            return None
    match = _NAME.fullmatch(name)
    if match is None or len(name) > 253 or match[1].isdigit():
        # An all-digit last label is an IPv4 address in disguise, never a top-level domain (RFC 3696 §2).
        return None
    if "xn--" in name and not all(_decodes(label) for label in _A_LABEL.findall(name)):
        return None
    return name


def _a_labels(domain: str) -> str:
    """Convert a name with non-ASCII labels to A-labels. Raises IDNAError or UnicodeError; the caller checks the result.

    UTS 46 maps case and width as browsers and mail clients do. If the name has an underscore, which IDNA does not
    permit, ASCII labels are not passed through IDNA.
    """
    if "_" not in domain:
        return idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
    return ".".join(
        label.lower() if label.isascii() else idna.encode(label, uts46=True, std3_rules=True).decode("ascii")
        for label in _DOTS.split(domain)
    )


def _decodes(encoded: str) -> bool:
    """Whether the text after `xn--` is Punycode for printable, non-ASCII text."""
    try:
        label = encoded.encode("ascii").decode("punycode")
    except (UnicodeError, OverflowError):
        return False
    return not label.isascii() and label.isprintable()


def _literal(domain: str) -> str | None:
    """An address literal (RFC 5321 §4.1.3); a relay has no use for general literals other than IPv6."""
    if not domain.endswith("]"):
        return None
    inner = domain[1:-1]
    try:
        if inner[:5].lower() == "ipv6:":
            if "%" in inner:
                return None
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        return None
