"""The grammar of paths: `<local@domain>` as MAIL and RCPT give it (RFC 5321 §4.1.2, RFC 6531 §3.3).

Strict where it is a matter of safety, because whatever is accepted here is later written into headers, logs and other
servers' sessions. Tolerant of addresses that others gave out and that work: local parts of more than 64 octets (VERP,
SRS; RFC 5321 §4.5.3.1 asks servers to impose no limit where they can) and local parts with stray dots, which are
valid as quoted strings. Says what is wrong in a sentence instead of raising: a refused address is nothing unusual.
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
"""A path without its brackets, as some of our own clients write it."""
_NON_ASCII = "\\u0080-\\U0010ffff"
_ATOM = rf"[{_ATEXT}{_NON_ASCII}]+"
_DOT_ATOM = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOTTED = re.compile(rf"[.{_ATEXT}{_NON_ASCII}]+")
_QUOTED = re.compile(rf'"(?:[ !#-\[\]-~{_NON_ASCII}]|\\[ -~])*"')
_QUOTED_PAIR = re.compile(r"\\(.)")
_JOINERS = str.maketrans("", "", "\u200c\u200d")
"""Zero width (non-)joiners belong to Persian and Indic spelling; other invisible characters only ever deceive."""

_MAX_PATH = 256
"""Octets with the brackets (RFC 5321 §4.5.3.1.3). Kept, unlike the limit on local parts: it bounds what is stored and
shown of an address, and hardly a server accepts more."""

BRACKETS = "Write the address in angle brackets: <user@example.org>"
SYNTAX = "That is not a mail address as RFC 5321 defines it"
PATH_LONG = "The address is longer than 256 octets"
DOMAIN_BAD = "The domain is not a valid name or address literal"
DOMAIN_MISSING = "The address needs a domain: user@example.org"


class Path(NamedTuple):
    """An address that passed the grammar."""

    address: str
    """Without brackets and source route. The local part is in its one form (see `canonical_local`); the domain is as
    given, or in its one form where it was outside ASCII: what is sent, shown and searched is what is decided about.
    Empty for `<>`."""
    domain: str
    """Lower-case A-label or an address literal; empty for `<>` and for `<postmaster>`."""
    rest: str
    """What followed the path: the parameters."""
    ascii: bool = True
    """False when it was given with what only SMTPUTF8 allows (RFC 6531 §3.4)."""


def parse_path(text: str, *, lenient: bool = False) -> Path | str:
    """Parse a path at the start of `text`: the address, or a sentence that says what is wrong.

    `<>` is a path with an empty address; `<postmaster>` (any case) is one without a domain. The caller decides
    where these two may stand. `lenient` also accepts an address without brackets, as some of our own clients write it.
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
    """Parse a bare `local@domain`, as in settings, headers and on the command line."""
    path = parse_path(f"<{address}>")
    if isinstance(path, str):
        return path
    if path.rest or address.startswith("@"):
        return SYNTAX
    return path if path.domain else DOMAIN_MISSING


def canonical_local(local: str) -> str:
    """The one form of a valid local part: quoted only where it must be, and escaped only what must be.

    All quoted forms are equivalent, and the form with the fewest quotes is the one to send (RFC 5321 §4.1.2):
    `"a.b"` is `a.b`. A local part with stray dots (`first..second.`) is no Dot-string and is sent quoted.
    """
    text = _QUOTED_PAIR.sub(r"\1", local[1:-1]) if local[:1] == '"' else local
    if _DOT_ATOM.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _bracketed(text: str) -> str:
    """The same with brackets around the address where there are none; what cannot get them stays as it is."""
    bare = _BARE.match(text)
    return text if bare is None else f"<{bare[1]}> {text[bare.end() :]}"


def _general(text: str) -> Path | str:
    """All that the fast pattern leaves: null and quoted paths, literals, routes, UTF-8, and errors."""
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
    """A source route must be understood and is then ignored (RFC 5321 §4.1.2 and appendix C): never followed."""
    if route is None:
        return None
    for hop in route.split(","):
        if not hop.startswith("@") or normalise(hop[1:]) is None:
            return SYNTAX
    return None
