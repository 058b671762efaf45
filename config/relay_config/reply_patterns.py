"""Patterns of `[[reply_rule]]`: regular expressions for the replies of other servers, with bounded matching time.

Strangers write the replies, and Python's engine backtracks: with `(a+)+b` or `.*.*x` a few hundred characters take
minutes, during which nothing else is delivered. So a pattern is refused unless its cost is bounded:

- `.*` outside of groups separates parts, which are searched one after the other, each after the end of the previous
  one. This has the same meaning, but the cost is the sum of the parts' costs, not their product;
- only single characters and classes may repeat; a group may be optional, but must not repeat;
- within a part, the product of the repeats' widths is at most `_MOST_WAYS`;
- there are no back references and no conditions.

Only the first `SEARCHED` characters of a reply are searched.
"""

import re
from typing import Final, NamedTuple

from relay_config.names import BadNameError

SEARCHED: Final = 500
"""Characters of a reply that a pattern sees."""
_LONGEST: Final = 500
_MOST_WAYS: Final = 2000
"""Most ways to match a part at one position. Each of `SEARCHED` positions costs so many steps at most: 30 ms total."""
_COUNT: Final = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
_EASIER: Final = "use fewer or narrower repeats, or separate parts by .* outside of groups"

Pattern = tuple[tuple[re.Pattern[str], ...], ...]
"""Alternatives, each a sequence of parts that must occur in this order."""


class _Piece(NamedTuple):
    """One element of the pattern, as found by the scan."""

    end: int
    kind: str
    """`atom`, `open`, `close`, `or`, `repeat`, `gap` (`.*` where it may separate parts), `other`."""
    most: int = 1
    """For a repeat: the maximum number of repetitions."""


def compile_reply_pattern(text: str) -> Pattern:
    """Compile a pattern for `occurs`; raises `BadNameError` with what to write instead."""
    if len(text) > _LONGEST:
        raise BadNameError(f"write at most {_LONGEST} characters")
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadNameError(f"write a regular expression: {error}") from None
    alternatives = _split(text)
    try:
        return tuple(tuple(re.compile(part, re.IGNORECASE) for part in parts) for parts in alternatives)
    except re.error as error:
        raise BadNameError(f"write a regular expression: {error}") from None


def occurs(pattern: Pattern, text: str) -> bool:
    """Whether the pattern matches anywhere in the first `SEARCHED` characters of the text."""
    text = text[:SEARCHED]
    return any(_in_order(parts, text) for parts in pattern)


def _in_order(parts: tuple[re.Pattern[str], ...], text: str) -> bool:
    position = 0
    for part in parts:
        match = part.search(text, position)
        if match is None:
            return False
        position = match.end()
    return True


def _split(text: str) -> list[list[str]]:
    """The parts of each alternative; refuses patterns that could take long.

    `ways` is an upper bound of the ways to match the current part: the product of the widths of its repeats.
    """
    alternatives: list[list[str]] = [[]]
    start = position = depth = 0
    ways = 1
    last = "other"
    while position < len(text):
        piece = _next(text, position)
        if piece.kind in ("gap", "or") and not depth:
            alternatives[-1].append(text[start:position])
            if piece.kind == "or":
                alternatives.append([])
            start, ways = piece.end, 1
        elif piece.kind in ("repeat", "gap"):
            if last == "close" and piece.most > 1:
                raise BadNameError("repeat single characters or classes only, not groups; " + _EASIER)
            ways *= max(min(piece.most, SEARCHED), 2)
            if ways > _MOST_WAYS:
                raise BadNameError("it could take too long on a hostile reply; " + _EASIER)
        elif piece.kind == "or":
            ways *= 2
        depth += (piece.kind == "open") - (piece.kind == "close")
        last, position = piece.kind, piece.end
    alternatives[-1].append(text[start:])
    return [[part for part in parts if part] for parts in alternatives]


def _next(text: str, at: int) -> _Piece:
    mark = text[at]
    if mark == "\\":
        return _escape(text, at)
    if mark == "[":
        return _Piece(_class_end(text, at), "atom")
    if mark == "(":
        return _group(text, at)
    if mark in ")|":
        return _Piece(at + 1, "close" if mark == ")" else "or")
    if text.startswith(".*", at):
        return _Piece(_lazy(text, at + 2), "gap", SEARCHED)
    return _repeat(text, at) or _Piece(at + 1, "atom")


def _escape(text: str, at: int) -> _Piece:
    if text[at + 1].isdigit() and text[at + 1] != "0":
        raise BadNameError("leave out back references")
    return _Piece(at + 2, "atom")


def _repeat(text: str, at: int) -> _Piece | None:
    if text[at] in "*+":
        return _Piece(_lazy(text, at + 1), "repeat", SEARCHED)
    if text[at] == "?":
        return _Piece(_lazy(text, at + 1), "repeat", 1)
    count = _COUNT.match(text, at)
    if count is None or count[0] in ("{}", "{,}"):
        return None
    bound = count[3] if count[2] else count[1]
    return _Piece(_lazy(text, count.end()), "repeat", min(int(bound[:4]), SEARCHED) if bound else SEARCHED)


def _lazy(text: str, at: int) -> int:
    """The position after the mark that makes a repeat lazy or possessive, if there is one."""
    return at + (text[at : at + 1] in ("?", "+"))


def _class_end(text: str, at: int) -> int:
    at += 1 + text.startswith("^", at + 1)
    at += text.startswith("]", at)
    while text[at] != "]":
        at += 1 + (text[at] == "\\")
    return at + 1


def _group(text: str, at: int) -> _Piece:
    """The opening of a group, including the mark of its kind, whose `?` is not a repeat."""
    if text.startswith(("(?P=", "(?("), at):
        raise BadNameError("leave out back references and conditions")
    for mark in ("(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"):
        if text.startswith(mark, at):
            return _Piece(at + len(mark), "open")
    if text.startswith("(?P<", at):
        return _Piece(text.index(">", at) + 1, "open")
    if text.startswith("(?", at):
        raise BadNameError("leave out flags and comments; case does not matter")
    return _Piece(at + 1, "open")
