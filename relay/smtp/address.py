"""The grammar of paths: `<local@domain>` as MAIL and RCPT give it (RFC 5321 §4.1.2, RFC 6531 §3.3).

The parser is strict where safety depends on it, because accepted addresses are later written into headers, logs and
other servers' sessions. It tolerates addresses that are in use and work: local parts of more than 64 octets (VERP,
SRS; RFC 5321 §4.5.3.1 asks servers to impose no limit where they can) and local parts with stray dots, which are
valid as quoted strings. Errors are returned as a sentence, not raised, because a refused address is a normal case.
Must not know who may send to whom.
"""

import re
from typing import NamedTuple

from relay.smtp.domain import normalise

_ATEXT = r"\-A-Za-z0-9!#$%&'*+/=?^_`{|}~"
_PLAIN = re.compile(rf"<([.{_ATEXT}]+)@([A-Za-z0-9._-]+)>(?: +|$)")
_GENERAL = re.compile(
    r"<"
    r"(?:(?P<route>@[^:<>\s\"]*):)?"
    r"(?P<local>\"(?:[^\"\\]|\\.)*\"|[^\"<>@\s][^<>@\s]*)"
    r"(?:@(?P<domain>\[[^\[\]<>\s]*\]|[^\[\]<>@\s]+))?"
    r">(?: +|$)"
)
_BARE = re.compile(r"((?:\"(?:[^\"\\]|\\.)*\"|[^\"<>@\s]+)(?:@[^\"<>@\s]+)?)(?: +|$)")
"""A path without brackets, as some of our own clients send it."""
_NON_ASCII = "\\u0080-\\U0010ffff"
_ATOM = rf"[{_ATEXT}{_NON_ASCII}]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOTTED = re.compile(rf"[.{_ATEXT}{_NON_ASCII}]+")
_QUOTED = re.compile(rf'"(?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])*"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Zero-width (non-)joiners are part of Persian and Indic spelling; other invisible characters serve only to deceive."""

_MAX_PATH = 256
"""Octets, including the brackets (RFC 5321 §4.5.3.1.3). Enforced, unlike the limit on local parts: it bounds what is
stored and shown of an address, and few servers accept more."""

BRACKETS = "Write the address in angle brackets: <user@example.org>"
SYNTAX = "That is not a mail address as RFC 5321 defines it"
PATH_LONG = "The address is longer than 256 octets"
DOMAIN_BAD = "The domain is not a valid name or address literal"
DOMAIN_MISSING = "The address needs a domain: user@example.org"


class Path(NamedTuple):
    """An address that passed the grammar."""

    address: str
    """Without brackets and source route; empty for `<>`. The local part is in canonical form (see `canonical_local`).
    The domain is as given, or in canonical form if it was not ASCII, so that policy decides about the same address that
    is sent, shown and searched."""
    domain: str
    """Lower-case A-label or an address literal; empty for `<>` and for `<postmaster>`."""
    rest: str
    """The text after the path: the parameters."""
    ascii: bool = True
    """False if the path contained characters that only SMTPUTF8 allows (RFC 6531 §3.4)."""


def parse_path(text: str, *, lenient: bool = False) -> Path | str:
    """Parse a path at the start of `text`. Returns the path, or a sentence that says what is wrong.

    `<>` is a path with an empty address; `<postmaster>` (any case) is a path without a domain. The caller decides
    where these two are allowed. `lenient` also accepts an address without brackets, as some of our own clients send it.
    """
    match = _PLAIN.match(text)
    if match is None:
        return _general(_bracketed(text) if lenient else text)
    local, given = match.groups()
    if local[0] == "." or local[-1] == "." or ".." in local:
        local = f'"{local}"'
    if len(local) + len(given) + 3 > _MAX_PATH:
        return PATH_LONG
    domain = normalise(given)
    if domain is None:
        return DOMAIN_BAD
    return Path(f"{local}@{given}", domain, text[match.end() :])


def parse_address(address: str) -> Path | str:
    """Parse a bare `local@domain`, as in settings, headers and on the command line. Returns as `parse_path` does."""
    path = parse_path(f"<{address}>")
    if isinstance(path, str):
        return path
    if path.rest or address.startswith("@"):
        return SYNTAX
    return path if path.domain else DOMAIN_MISSING


def canonical_local(local: str) -> str:
    """The canonical form of a valid local part, with quotes and escapes only where they are required.

    All quoted forms are equivalent, and the form with the fewest quotes should be sent (RFC 5321 §4.1.2):
    `"a.b"` becomes `a.b`. A local part with stray dots (`first..second.`) is not a Dot-string and is sent quoted.
    """
    text = _QUOTED_PAIR.sub(r"\1", local[1:-1]) if local[:1] == '"' else local
    if _DOT_ATOM.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _bracketed(text: str) -> str:
    """Add brackets around an address that has none; text that does not start with an address is returned unchanged."""
    bare = _BARE.match(text)
    return text if bare is None else f"<{bare[1]}> {text[bare.end() :]}"


def _general(text: str) -> Path | str:
    """Parse paths that the fast pattern does not match: null and quoted paths, literals, routes, UTF-8, and errors."""
    if text == "<>" or text.startswith("<> "):
        return Path("", "", text[3:].lstrip(" "))
    match = _GENERAL.match(text)
    if match is None:
        return SYNTAX if text.startswith("<") else BRACKETS
    local, given, route = match["local"], match["domain"], match["route"]
    fault = _length_fault(match[0]) or _local_fault(local) or _route_fault(route)
    if fault:
        return fault
    rest = text[match.end() :]
    if given is None:
        mailbox = local.lower() == "postmaster" and route is None
        return Path(local, "", rest) if mailbox else DOMAIN_MISSING
    domain = normalise(given)
    if domain is None:
        return DOMAIN_BAD
    address = f"{canonical_local(local)}@{given if given.isascii() else domain}"
    return _length_fault(f"<{address}>") or Path(address, domain, rest, match[0].isascii())


def _length_fault(path: str) -> str | None:
    """The whole path is limited in octets, brackets and route included (RFC 5321 §4.5.3.1.3)."""
    return PATH_LONG if len(path.rstrip(" ").encode()) > _MAX_PATH else None


def _local_fault(local: str) -> str | None:
    """What is wrong with a local part, if anything."""
    grammar = _QUOTED if local.startswith('"') else _DOTTED
    if grammar.fullmatch(local) is None:
        return SYNTAX
    if not local.isascii() and not local.translate(_JOINERS).isprintable():
        return SYNTAX
    return None


def _route_fault(route: str | None) -> str | None:
    """Check a source route. It must be understood but is then ignored, never followed (RFC 5321 §4.1.2, appendix C)."""
    if route is None:
        return None
    for hop in route.split(","):
        if not hop.startswith("@") or normalise(hop[1:]) is None:
            return SYNTAX
    return None
