"""The built-in rules that say what a refusal means: `reply_rules.toml`, read and compiled once, and the search in it.

The file explains its own format. Replies are written by strangers, so the text is cut before it is searched, and what
a stranger can choose (mail addresses, IP addresses, URLs) is replaced by a placeholder: the address
`no-such-user@example.org` in a reply about greylisting is no complaint. The same placeholders make most refusals of a
site equal, so that the result of a search is found in a small cache.
"""

import functools
import re
import unicodedata
from importlib import resources
from typing import Final, Literal

import msgspec

SEARCHED: Final = 600
"""Characters of a reply that are searched. Longer replies say what they mean at their beginning."""
_GAP: Final = ".{0,60}"

_URL: Final = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]*")
# Possessive repeats and a start at the beginning of a word keep these linear in the length of the text.
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
    """Beginnings of reply codes; empty: any."""
    status: list[str] = []
    """Subject and detail of enhanced status codes; empty: any, or none."""
    text: list[str] = []
    link: list[str] = []
    unless: list[str] = []
    disposition: Literal["temporary"] | None = None
    """Set where the rule is an exception to "5xx is permanent"."""
    pauses: bool = False


class RuleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    terms: dict[str, str]
    rule: list[Rule]
    status: dict[str, str]
    """Class by subject and detail (or by subject alone, for 5xx), where no rule matches."""
    code: dict[str, str]
    """Class by reply code, where nothing else is known."""


class Finding(msgspec.Struct, frozen=True):
    """What the rules say of a reply."""

    failure: str
    rule: str
    """Name of the rule; `status X.Y` or `code NNN` where only a code was known."""
    temporary: bool = False
    """An exception to "5xx is permanent"."""
    pauses: bool = False
    """A temporary refusal with this finding is about us, the connection or the rate."""


class Subject(msgspec.Struct, frozen=True):
    """What is searched of a reply."""

    words: str
    """Normalized text: see `reply_rules.toml`."""
    links: str
    """The URLs of the text, separated by blanks; empty for most replies."""


class _Compiled(msgspec.Struct, frozen=True):
    """A rule, ready to be searched for."""

    codes: tuple[str, ...]
    status: frozenset[str]
    text: re.Pattern[str] | None
    link: re.Pattern[str] | None
    unless: re.Pattern[str] | None
    finding: Finding


class Rules:
    """The compiled file."""

    def __init__(self, file: RuleFile) -> None:
        self.file = file
        self._rules = [_compile(rule, file.terms) for rule in file.rule]

    def find(self, code: int, detail: str, subject: Subject) -> Finding:
        """What a reply means; `detail` is the enhanced code without its class, empty where there is none."""
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
    """The built-in rules. Compiling them takes a tenth of a second, so it is done once, when they are first needed."""
    data = resources.files("relay.delivery").joinpath("reply_rules.toml").read_bytes()
    return Rules(msgspec.toml.decode(data, type=RuleFile))


@functools.lru_cache(maxsize=2048)
def find(code: int, detail: str, subject: Subject) -> Finding:
    """`Rules.find` of the built-in rules, remembered."""
    return rules().find(code, detail, subject)


def subject_of(text: str) -> Subject:
    """What is searched of a reply's text."""
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
    # Latin letters only: elsewhere a mark can make another letter, and Korean syllables would be taken apart.
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
