"""Addresses in header fields, by a strict byte parser of RFC 5322 §3.4.

It is used where an address decides something: whose signature is added, who may send. So it must never find an address
where another program finds a different one (CVE-2023-27043: `alice@example.org)bob@evil.test`): ambiguous or obsolete
syntax is an error. The only exceptions are harmless and common: dots and octets above 127 in display names (RFC 5322
§4.1, RFC 6532). Time is linear in the length of the value. `relay.message.authors` accepts a From in worse syntax, and
rewrites it.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from relay.smtp.domain import normalise

_CACHED_LENGTH = 512
LENGTH_MAX = 1 << 14
"""Maximum length of a value in bytes: hundreds of authors. Bounds the time of a hostile one on the event loop."""
_COMMENT_DEPTH = 20

_TOKEN = re.compile(
    rb"(?P<space>[ \t]++)"
    rb"|(?P<text>[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\x80-\xff]++)"
    rb'|(?P<quoted>"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*+")'
    rb"|(?P<literal>\[[A-Za-z0-9.:\-]++\])"
    rb"|(?P<special>[<>@,;:])"
)
_COMMENT_SPECIAL = re.compile(rb"[()\\\x00\r\n]")


class Mailbox(NamedTuple):
    """One addr-spec."""

    local: bytes
    """Local part as written, including quotes."""
    domain: str
    """Lower-case A-label domain, or an address literal with its brackets."""

    @property
    def address(self) -> str:
        """`local@domain` as text."""
        return f"{self.local.decode('utf-8', 'replace')}@{self.domain}"


class MailboxError(ValueError):
    """The value is not a valid address list; the text is the end of a sentence."""


def parse(value: bytes) -> tuple[Mailbox, ...]:
    """Return all mailboxes of the address list in a From, Sender or To, including group members; folds are allowed.

    Raises `MailboxError`. An empty group gives no mailbox (RFC 6854).
    """
    if len(value) <= _CACHED_LENGTH:
        return _parse_cached(value)
    if len(value) > LENGTH_MAX:
        raise MailboxError(f"it has more than {LENGTH_MAX} octets")
    return _parse(value)


# A relay sees few authors and many messages; the bound on length bounds the cache's memory.
@lru_cache(maxsize=2048)
def _parse_cached(value: bytes) -> tuple[Mailbox, ...]:
    return _parse(value)


def _parse(value: bytes) -> tuple[Mailbox, ...]:
    return _AddressList(_tokens(value.replace(b"\r\n", b""))).parse()


class _Token(NamedTuple):
    kind: str
    octets: bytes


_END = _Token("end", b"")


def _tokens(value: bytes) -> list[_Token]:
    """Return the lexical tokens; each run of spaces and comments is one `space` token."""
    tokens: list[_Token] = []
    position = 0
    while position < len(value):
        if value[position] == ord("("):
            position = skip_comment(value, position)
            kind, octets = "space", b" "
        else:
            match = _TOKEN.match(value, position)
            if match is None:
                raise MailboxError(f"it has a stray {_shown(value[position])}")
            position = match.end()
            kind, octets = str(match.lastgroup), match.group()
        if kind != "space" or not tokens or tokens[-1].kind != "space":
            tokens.append(_Token(kind, octets))
    return tokens


def _shown(octet: int) -> str:
    return f"`{chr(octet)}`" if 32 < octet < 127 else f"octet {octet}"


def skip_comment(value: bytes, position: int) -> int:
    """Return the position after the comment that opens at `position`."""
    depth = 0
    while match := _COMMENT_SPECIAL.search(value, position):
        position = match.end()
        octet = match.group()
        if octet == b"(":
            depth += 1
        elif octet == b")":
            depth -= 1
        elif octet == b"\\":
            position += 1
        else:
            break
        if depth == 0:
            return position
        if depth > _COMMENT_DEPTH:
            raise MailboxError("it has comments nested too deep")
    raise MailboxError("it has a comment that does not end")


class _AddressList:
    """Recursive descent without recursion: the grammar is only two levels deep (groups do not nest)."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._found: list[Mailbox] = []

    def parse(self) -> tuple[Mailbox, ...]:
        in_group = False
        empty = True
        while True:
            self._skip_space()
            token = self._peek()
            if token is _END:
                break
            if token.octets == b"," and token.kind == "special":
                # RFC 5322 §4.4 lets old software write empty list elements.
                self._at += 1
                continue
            if token.octets == b";" and token.kind == "special":
                if not in_group:
                    raise MailboxError("it has a `;` outside a group")
                in_group = False
                self._at += 1
                self._expect_separator(b",")
                continue
            empty = False
            if self._element():
                if in_group:
                    raise MailboxError("it has a group within a group")
                in_group = True
                continue
            self._expect_separator(b",;" if in_group else b",")
        if in_group:
            raise MailboxError("it has a group without its final `;`")
        if empty:
            raise MailboxError("it has no address")
        return tuple(self._found)

    def _element(self) -> bool:
        """Read one mailbox, or the opening of a group (returns True)."""
        start = self._at
        words = self._phrase()
        token = self._peek()
        if token == _Token("special", b"@"):
            self._at = start
            self._found.append(self._addr_spec())
            return False
        if token == _Token("special", b"<"):
            self._at += 1
            mailbox = self._addr_spec()
            if self._peek() != _Token("special", b">"):
                raise MailboxError("it has an address that is not closed with `>`")
            self._at += 1
            self._found.append(mailbox)
            return False
        if token == _Token("special", b":") and words:
            self._at += 1
            return True
        raise MailboxError("it has a name without an address such as <user@example.com>")

    def _phrase(self) -> int:
        """Skip words and spaces; returns how many words."""
        words = 0
        while (token := self._peek()).kind in {"text", "quoted", "space"}:
            words += token.kind != "space"
            self._at += 1
        return words

    def _addr_spec(self) -> Mailbox:
        local, at, domain = self._next(), self._next(), self._next()
        if at != _Token("special", b"@"):
            raise MailboxError("it has an address without `@`, or with a space in it")
        if local.kind == "text":
            if local.octets[:1] == b"." or local.octets[-1:] == b"." or b".." in local.octets:
                raise MailboxError("it has an address with a misplaced dot")
        elif local.kind != "quoted":
            raise MailboxError("it has an address with nothing before its `@`")
        if domain.kind not in {"text", "literal"}:
            raise MailboxError("it has an address with nothing after its `@`")
        name = normalise(domain.octets.decode("utf-8", "replace"))
        if name is None:
            raise MailboxError("it has an address whose domain is not a valid name")
        return Mailbox(local.octets, name)

    def _expect_separator(self, separators: bytes) -> None:
        self._skip_space()
        token = self._peek()
        if token is not _END and not (token.kind == "special" and token.octets in separators):
            raise MailboxError("it has text after an address; a name with special characters must be in quotes")

    def _skip_space(self) -> None:
        while self._peek().kind == "space":
            self._at += 1

    def _peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _next(self) -> _Token:
        token = self._peek()
        self._at += 1
        return token
