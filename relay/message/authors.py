"""The From field as applications write it: accepted if only one address can be meant, and rewritten in valid syntax.

`relay.message.mailboxes` parses the strict grammar. Values that it refuses are parsed here, since much software writes
names without quotes: `Doe, John <a@example.org>`, `[App] <a@example.org>`, `x@example.net <a@example.org>`.

SECURITY: programs disagree about such values, and the address that is checked must be the one that every receiver
shows. So a value that only this parser accepts is never sent unchanged: `Authors.rewritten` replaces it by an
unambiguous form (RFC 5322 §3.4). A second address outside a quoted name or a display name is an error.
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from relay.message.mailboxes import LENGTH_MAX, Mailbox, MailboxError, parse, skip_comment
from relay.smtp.domain import normalise

_TOKEN = re.compile(
    rb"(?P<space>[ \t]++)"
    rb'|(?P<quoted>"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*+")'
    rb"|(?P<special>[<>@,;:])"
    rb'|(?P<word>[^ \t"(<>@,;:\x00-\x1f\x7f]++)'
)
_LOCAL = re.compile(rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.\x80-\xff]++")
_LONE = re.compile(rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]++(?:\.[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~]++)*+")
_ATOM = re.compile(rb"[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\x80-\xff]++")
# Limited to the characters that RFC 2047 §5 (3) allows in a phrase; an atom can contain all of them.
_ENCODED_WORD = re.compile(rb"(=\?[A-Za-z0-9_.+*'\-]+\?[bBqQ]\?[A-Za-z0-9!#$%&'*+\-/=^_`{|}~.]*\?=)")
_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_SPECIAL = re.compile(rb'(["\\])')
_ADDRESS_IN_COMMENT = re.compile(rb"[<>@]")
_SEPARATOR = re.compile(rb"[,;:)]")
_CONTROLS = bytes({*range(32), 127} - {ord("\t")})
_CACHED_LENGTH = 512

NO_DOMAIN = "it has an address without a domain; write user@example.org, or set submission.default_domain"


class Authors(NamedTuple):
    """The content of a From field."""

    mailboxes: tuple[Mailbox, ...]
    rewritten: bytes | None
    """The value that replaces it, with a leading space; None if it can stay unchanged."""


class _Token(NamedTuple):
    kind: str
    octets: bytes
    end: int
    """Position of its end in the value."""


def read(value: bytes, default_domain: str | None = None) -> Authors:
    """Return the authors; addresses without a domain get `default_domain`. Raises `MailboxError`."""
    if len(value) <= _CACHED_LENGTH:
        return _read_cached(value, default_domain)
    if len(value) > LENGTH_MAX:
        raise MailboxError(f"it has more than {LENGTH_MAX} octets")
    return _read(value, default_domain)


# As in `mailboxes`: few authors, many messages.
@lru_cache(maxsize=2048)
def _read_cached(value: bytes, default_domain: str | None) -> Authors:
    return _read(value, default_domain)


def _read(value: bytes, default_domain: str | None) -> Authors:
    completed = value if default_domain is None else complete(value, default_domain)
    try:
        mailboxes = parse(completed)
    except MailboxError as error:
        return _read_leniently(completed, error)
    if b"(" in completed and _hides_address(completed):
        hidden = MailboxError("it has an address within a comment")
        if len(mailboxes) != 1:
            raise hidden
        return _read_leniently(completed, hidden)
    return Authors(mailboxes, None if completed is value else completed)


def complete(value: bytes, domain: str) -> bytes:
    """Append `@domain` to each address without a domain in a list; returns the same object if there is none.

    A single word before `Name <address>` is not changed: in `Doe, John <a@example.org>` it is a part of the name.
    Malformed values are not changed either.
    """
    try:
        places = _lone_addresses(value)
    except MailboxError:
        return value
    if not places:
        return value
    pieces, start = [], 0
    for place in places:
        pieces += [value[start:place], b"@", domain.encode()]
        start = place
    pieces.append(value[start:])
    return b"".join(pieces)


def _lone_addresses(value: bytes) -> list[int]:
    """Return the positions at which domains are missing."""
    element: list[_Token] = []
    found: list[int] = []
    pending: int | None = None
    # An additional comma ends the last element like all others.
    for token in [*_tokens(value), _Token("special", b",", 0)]:
        if token.kind in {"space", "comment"}:
            continue
        if token.kind != "special" or token.octets not in (b",", b";", b":"):
            element.append(token)
            continue
        words = [one.octets for one in element]
        named = len(words) > 3 and words[-1] == b">"
        if pending is not None and not named:
            found.append(pending)
        pending = None
        if token.octets != b":":
            if len(words) == 1 and element[0].kind == "word" and _LONE.fullmatch(words[0]):
                pending = element[0].end
            elif words[-3::2] == [b"<", b">"] and element[-2].kind == "word" and _LONE.fullmatch(words[-2]):
                found.append(element[-2].end)
        element = []
    if pending is not None:
        found.append(pending)
    return found


def _tokens(value: bytes) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(value):
        if value[position] == ord("("):
            end, kind = skip_comment(value, position), "comment"
        elif value.startswith(b"\r\n", position):
            end, kind = position + 2, "space"
        else:
            match = _TOKEN.match(value, position)
            if match is None:
                raise MailboxError("it has a quote that does not end, or a control character")
            end, kind = match.end(), str(match.lastgroup)
        tokens.append(_Token(kind, value[position:end], end))
        position = end
    return tokens


def _hides_address(value: bytes) -> bool:
    """Whether a comment contains text that a lax parser takes for the address."""
    return any(token.kind == "comment" and _ADDRESS_IN_COMMENT.search(token.octets) for token in _tokens(value))


def _read_leniently(value: bytes, error: MailboxError) -> Authors:
    """Return a single author in bad syntax. Otherwise raises `error`, the complaint of the strict grammar."""
    tokens = _tokens(value)
    angles = [n for n, token in enumerate(tokens) if token.octets in (b"<", b">")]
    if not angles:
        name, address = [token for token in tokens if token.kind == "comment"], tokens
    elif [tokens[n].octets for n in angles] == [b"<", b">"]:
        first, last = angles
        name, address = tokens[:first], tokens[first + 1 : last]
        behind = [token for token in tokens[last + 1 :] if token.kind != "space"]
        name += [token for token in behind if token.kind == "comment"]
        if any(token.kind != "comment" and token.octets not in (b",", b";") for token in behind):
            raise error
        if not _is_name(name):
            raise error
    else:
        raise error
    mailbox = _address(address, bracketed=bool(angles), error=error)
    spec = b"%b@%b" % (mailbox.local, mailbox.domain.encode())
    shown = _phrase(name)
    return Authors((mailbox,), b" %b <%b>" % (shown, spec) if shown else b" " + spec)


def _is_name(tokens: list[_Token]) -> bool:
    """Whether the text before the bracket can only be a name, whatever it looks like.

    An address counts as a name (`x@example.net <a@example.org>`), but not next to a separator of list elements.
    """
    octets = b"".join([token.octets for token in tokens if token.kind in {"special", "word"}])
    return b"@" not in octets or not _SEPARATOR.search(octets)


def _address(tokens: list[_Token], *, bracketed: bool, error: MailboxError) -> Mailbox:
    """Return the only address. In brackets, white space and comments may surround its `@` (RFC 5322 appendix A.5)."""
    parts = [token for token in tokens if token.kind not in {"space", "comment"}]
    if not bracketed:
        while parts and parts[-1].octets in (b",", b";"):
            parts.pop()
        if any(after.end - len(after.octets) != before.end for before, after in pairwise(parts)):
            raise error
    if len(parts) == 1 and parts[0].kind == "word" and _LONE.fullmatch(parts[0].octets):
        raise MailboxError(NO_DOMAIN)
    if [part.octets for part in parts[1::2]] != [b"@"] or len(parts) != 3 or parts[2].kind != "word":
        raise error
    local = _local_part(parts[0])
    # A final dot is valid in the DNS and invalid in mail (RFC 5321 §2.3.5); removing it changes nothing.
    name = normalise(parts[2].octets.removesuffix(b".").decode("utf-8", "replace"))
    if local is None or name is None:
        raise error
    return Mailbox(local, name)


def _local_part(token: _Token) -> bytes | None:
    """Return the local part in valid syntax, or None if there is no valid form."""
    local = token.octets
    if token.kind == "quoted":
        return local
    if token.kind != "word" or _LOCAL.fullmatch(local) is None:
        return None
    if local[:1] == b"." or local[-1:] == b"." or b".." in local:
        # Some mailbox providers assign such addresses; they are valid if quoted.
        return b'"%b"' % local
    return local


def _phrase(tokens: list[_Token]) -> bytes:
    """Return a display name in valid syntax: encoded words and atoms unchanged, everything else in quotes."""
    if len(tokens) == 1 and tokens[0].kind == "comment":
        text = tokens[0].octets[1:-1]
    else:
        text = b"".join([_plain(token) for token in tokens])
    # A comment may contain control characters, a quoted string may not.
    text = text.translate(None, _CONTROLS)
    words: list[bytes] = []
    quote: list[bytes] = []
    for word in _ENCODED_WORD.sub(rb" \1 ", text).split():
        if _ENCODED_WORD.fullmatch(word):
            words += _quoted(quote)
            quote = []
            words.append(word)
        else:
            quote.append(word)
    return b" ".join(words + _quoted(quote))


def _plain(token: _Token) -> bytes:
    """Return the text that a token represents."""
    if token.kind == "quoted":
        return _PAIR.sub(rb"\1", token.octets[1:-1])
    return b" " if token.octets == b"\r\n" else token.octets


def _quoted(words: list[bytes]) -> list[bytes]:
    """Return words as one quoted string, or unchanged if they are atoms."""
    if not words or all(_ATOM.fullmatch(word) for word in words):
        return words
    return [b'"%b"' % _SPECIAL.sub(rb"\\\1", b" ".join(words))]
