"""Parameters of MAIL and RCPT: SIZE, BODY, SMTPUTF8, AUTH, RET and ENVID; NOTIFY and ORCPT.

RFC 1870, 6152, 6531, 4954 §5 and 3461. Each parameter may be given once; digits are ASCII digits; xtext must decode to
printable text, because it appears in reports to others. Errors are returned as a `Reply`. Must not decide policy.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.smtp.address import parse_address
from relay.smtp.reply import Reply

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_UTF8_XTEXT = re.compile(r"(?:[!-*,-<>-\[\]-~\u0080-\U0010ffff]|\\x\{[0-9A-F]{2,6}\}|\+[0-9A-F]{2})+")
_ATOM = re.compile(r"[A-Za-z0-9-]+")
_DIGITS = re.compile(r"[0-9]{1,20}")

_ENVID_LENGTH = 100
_ORCPT_LENGTH = 500

DUPLICATE: Final = Reply(501, "5.5.4", "Each parameter may be given once")
UNKNOWN_MAIL: Final = Reply(555, "5.5.4", "This MAIL parameter is not supported here")
UNKNOWN_RCPT: Final = Reply(555, "5.5.4", "This RCPT parameter is not supported here")
BAD_SIZE: Final = Reply(501, "5.5.4", "SIZE takes a number of octets: SIZE=12345")
BAD_BODY: Final = Reply(501, "5.5.4", "BODY takes 7BIT or 8BITMIME")
BAD_SMTPUTF8: Final = Reply(501, "5.5.4", "SMTPUTF8 takes no value")
BAD_AUTH: Final = Reply(501, "5.5.4", "AUTH takes <> or an address in xtext")
BAD_RET: Final = Reply(501, "5.5.4", "RET takes FULL or HDRS")
BAD_ENVID: Final = Reply(501, "5.5.4", "ENVID takes up to 100 characters of xtext")
BAD_NOTIFY: Final = Reply(501, "5.5.4", "NOTIFY takes NEVER, or a list of SUCCESS, FAILURE and DELAY")
BAD_ORCPT: Final = Reply(501, "5.5.4", "ORCPT takes type;address in xtext, up to 500 characters")


@dataclass(slots=True)
class MailParameters:
    """The parameters of MAIL."""

    size: int | None = None
    """Declared size in octets."""
    eightbit: bool = False
    smtputf8: bool = False
    ret: str | None = None
    """FULL or HDRS."""
    envid: str | None = None
    """In xtext, as sent."""


@dataclass(slots=True)
class RcptParameters:
    """The parameters of RCPT."""

    notify: str | None = None
    """NEVER, or a comma list in upper case."""
    orcpt: str | None = None
    """`type;xtext` as sent."""


def mail_parameters(text: str) -> MailParameters | Reply:
    """Parse the text after MAIL's path. Returns the parameters, or the refusal."""
    found = MailParameters()
    seen: set[str] = set()
    for word in _words(text):
        key, equals, value = word.partition("=")
        key = _upper(key)
        if key in seen:
            return DUPLICATE
        seen.add(key)
        fault = _mail_parameter(found, key, value if equals else None)
        if fault is not None:
            return fault
    return found


def rcpt_parameters(text: str, *, smtputf8: bool = False) -> RcptParameters | Reply:
    """Parse the text after RCPT's path. Returns the parameters, or the refusal."""
    found = RcptParameters()
    seen: set[str] = set()
    for word in _words(text):
        key, _, value = word.partition("=")
        key = _upper(key)
        if key in seen:
            return DUPLICATE
        seen.add(key)
        if key == "NOTIFY":
            found.notify = _notify(value)
            if found.notify is None:
                return BAD_NOTIFY
        elif key == "ORCPT":
            if not is_orcpt(value, smtputf8=smtputf8):
                return BAD_ORCPT
            found.orcpt = value
        else:
            return UNKNOWN_RCPT
    return found


def is_xtext(text: str) -> bool:
    """Whether `text` is xtext (RFC 3461 §4) of printable characters."""
    if _XTEXT.fullmatch(text) is None:
        return False
    return "+" not in text or all(32 <= int(code, 16) < 127 for code in _HEX.findall(text))


def decode_xtext(text: str) -> str:
    """Decode xtext; `text` must have passed `is_xtext`."""
    return _HEX.sub(lambda match: chr(int(match[1], 16)), text)


def is_orcpt(text: str, *, smtputf8: bool = False) -> bool:
    """Whether `text` is an original recipient: `type;xtext`, or `utf-8;…` (RFC 3461 §4.2, RFC 6533 §3)."""
    kind, _, value = text.partition(";")
    if len(text) > _ORCPT_LENGTH or _ATOM.fullmatch(kind) is None or not value:
        return False
    if kind.lower() != "utf-8":
        return is_xtext(value)
    if _UTF8_XTEXT.fullmatch(value) is None or not (smtputf8 or value.isascii()):
        return False
    points = [int(code, 16) for code in re.findall(r"\\x\{([0-9A-F]+)\}", value)]
    points += [int(code, 16) for code in _HEX.findall(value)]
    return value.isprintable() and all(32 <= point <= 0x10FFFF and chr(point).isprintable() for point in points)


def _words(text: str) -> list[str]:
    """Split at ASCII spaces only: `split` without an argument would also split at the other Unicode blanks."""
    return [word for word in text.split(" ") if word]


def _upper(word: str) -> str:
    """Convert to upper case if it is ASCII, as all keywords are: U+017F and U+0131 must not become S and I."""
    return word.upper() if word.isascii() else word


def _mail_parameter(found: MailParameters, key: str, value: str | None) -> Reply | None:
    """Store one parameter of MAIL in `found`. Returns the refusal if it is wrong."""
    fault = None
    match key:
        case "SIZE":
            if value is None or _DIGITS.fullmatch(value) is None:
                return BAD_SIZE
            found.size = int(value)
        case "BODY":
            found.eightbit = value is not None and _upper(value) == "8BITMIME"
            fault = None if value is not None and _upper(value) in {"7BIT", "8BITMIME"} else BAD_BODY
        case "SMTPUTF8":
            found.smtputf8 = True
            fault = None if value is None else BAD_SMTPUTF8
        case "RET":
            found.ret = _upper(value or "")
            fault = None if found.ret in {"FULL", "HDRS"} else BAD_RET
        case "ENVID":
            found.envid = value
            fault = None if value and len(value) <= _ENVID_LENGTH and is_xtext(value) else BAD_ENVID
        case "AUTH":
            # Checked and then ignored: no client is trusted to vouch for another submitter (RFC 4954 §5).
            fault = None if value is not None and _is_submitter(value) else BAD_AUTH
        case _:
            return UNKNOWN_MAIL
    return fault


def _is_submitter(value: str) -> bool:
    """Whether the value is valid for AUTH: `<>` or a mailbox in xtext."""
    if value == "<>":
        return True
    return is_xtext(value) and not isinstance(parse_address(decode_xtext(value)), str)


def _notify(value: str) -> str | None:
    """NOTIFY's value in upper case, or None when it is wrong."""
    words = _upper(value).split(",")
    if words == ["NEVER"]:
        return "NEVER"
    if len(set(words)) != len(words) or not set(words) <= {"SUCCESS", "FAILURE", "DELAY"}:
        return None
    return ",".join(words)
