"""Classifies refusals by the built-in rules of `reply_rules.toml`, which are read and compiled once.

The file explains its own format. Replies are untrusted input, so the text is truncated before it is searched, and mail
addresses, IP addresses and URLs are replaced by placeholders: the address `no-such-user@example.org` in a reply about
greylisting does not mean that the user is unknown. The placeholders also make most refusals of a site equal, so a small
cache holds the results of most searches.
"""

import functools
import re
import unicodedata
from importlib import resources
from typing import Final, Literal

import msgspec

SEARCHED: Final = 600
"""Characters of a reply that are searched. Longer replies state the reason at their beginning."""
_GAP: Final = ".{0,60}"

_URL: Final = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]*")
# Possessive quantifiers, and a match only at the start of a word, keep these linear in the length of the text.
_ADDRESS: Final = re.compile(r"(?<![^\s<>()\[\]:;,\"'=])[^\s<>()\[\]:;,\"'=@]++@[^\s<>()\[\]:;,\"']++")
_IPV4: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.]\d)")
_IPV6: Final = re.compile(
    r"(?<![\w:])(?:(?:[0-9a-f]{1,4}:){3,7}[0-9a-f:]{1,4}|(?:[0-9a-f]{1,4}:){1,6}:[0-9a-f:]*)(?!\w)", re.ASCII
)
_TERM: Final = re.compile(r"\{([a-z_]+)\}")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of the file, as written there."""

    name: str
    failure: str = msgspec.field(name="class")
    source: str
    example: list[str]
    """Complete replies that this rule decides."""
    codes: list[str] = []
    """Prefixes of reply codes; empty: any code."""
    status: list[str] = []
    """Subject and detail of enhanced status codes; empty: any code or none."""
    text: list[str] = []
    link: list[str] = []
    unless: list[str] = []
    disposition: Literal["temporary"] | None = None
    """Set if the rule is an exception to "5xx is permanent"."""
    pauses: bool = False


class RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    terms: dict[str, str]
    rule: list[Rule]
    status: dict[str, str]
    """Class by subject and detail (for 5xx also by subject alone), used if no rule matches."""
    code: dict[str, str]
    """Class by reply code, used if nothing else matches."""


class Finding(msgspec.Struct, frozen=True):
    """The classification of a reply."""

    failure: str
    rule: str
    """Name of the rule; `status X.Y` or `code NNN` if only a code matched; `no rule` if nothing matched."""
    temporary: bool = False
    """The refusal is an exception to "5xx is permanent"."""
    pauses: bool = False
    """A temporary refusal with this finding concerns this relay, the connection or the rate, not the message."""


class Subject(msgspec.Struct, frozen=True):
    """The parts of a reply that are searched."""

    words: str
    """Normalized text: see `reply_rules.toml`."""
    links: str
    """The URLs of the text, separated by spaces; empty for most replies."""


class _Compiled(msgspec.Struct, frozen=True):
    """A rule with compiled patterns."""

    codes: tuple[str, ...]
    status: frozenset[str]
    text: re.Pattern[str] | None
    link: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    finding: Finding


class Rules:
    """The compiled rule file."""

    def __init__(self, file: RuleFile) -> None:
        self.file = file
        self._rules = [_compile(rule, file.terms) for rule in file.rule]

    def find(self, code: int, detail: str, subject: Subject) -> Finding:
        """Classify a reply. `detail` is the enhanced code without its class, empty if there is none."""
        digits = str(code)
        for rule in self._rules:
            if rule.codes and not digits.startswith(rule.codes):
                continue
            if rule.status and detail not in rule.status:
                continue
            if (rule.text or rule.link) and not _occurs(rule, subject):
                continue
            if rule.unless is not None and rule.unless.search(subject.words):
                continue
            return rule.finding
        return self._by_codes(code, detail)

    def _by_codes(self, code: int, detail: str) -> Finding:
        keys = (detail, detail.partition(".")[0]) if code >= 500 else (detail,)
        for key in keys:
            if key in self.file.status:
                return Finding(self.file.status[key], f"status X.{key}")
        if str(code) in self.file.code:
            return Finding(self.file.code[str(code)], f"code {code}")
        return Finding("other", "no rule")


def _occurs(rule: _Compiled, subject: Subject) -> bool:
    if rule.text is not None and rule.text.search(subject.words):
        return True
    return rule.link is not None and bool(subject.links) and rule.link.search(subject.links) is not None


@functools.cache
def rules() -> Rules:
    """Return the built-in rules. Compiling takes 0.1 s, so it is done once, on first use."""
    data = resources.files("relay.delivery").joinpath("reply_rules.toml").read_bytes()
    return Rules(msgspec.toml.decode(data, type=RuleFile))


@functools.lru_cache(maxsize=2048)
def find(code: int, detail: str, subject: Subject) -> Finding:
    """`Rules.find` of the built-in rules, with a cache."""
    return rules().find(code, detail, subject)


def subject_of(text: str) -> Subject:
    """Normalize a reply's text for the search."""
    text = text[:SEARCHED].lower()
    if not text.isascii():
        text = _without_accents(text)
    links = ""
    if "://" in text or "www." in text:
        links = " ".join(_URL.findall(text))
        text = _URL.sub("~", text)
    if "@" in text:
        text = _ADDRESS.sub("@", text)
    text = _IPV4.sub("ip", text)
    if ":" in text:
        text = _IPV6.sub("ip", text)
    return Subject(" ".join(text.split()), links)


def _without_accents(text: str) -> str:
    # Latin letters only: in other scripts a mark can change the letter, and Korean syllables would be split.
    text = text.replace("\u2019", "'").replace("ß", "ss")
    return "".join(unicodedata.normalize("NFKD", c)[0] if c < "\u0250" else c for c in text)


def _compile(rule: Rule, terms: dict[str, str]) -> _Compiled:
    return _Compiled(
        codes=tuple(rule.codes),
        status=frozenset(rule.status),
        text=_pattern(rule.text, terms),
        link=_pattern(rule.link, terms),
        unless=_pattern(rule.unless, terms),
        finding=Finding(rule.failure, rule.name, rule.disposition == "temporary", rule.pauses),
    )


def _pattern(patterns: list[str], terms: dict[str, str]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    expanded = (_TERM.sub(lambda match: terms[match[1]], pattern.replace(" ... ", _GAP)) for pattern in patterns)
    return re.compile("|".join(f"(?:{pattern})" for pattern in expanded))
