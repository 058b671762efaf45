"""Text from outside made safe for a notification, and folded fields.

Replies of other servers, ENVID and ORCPT are chosen by strangers, so they must not be able to start a line, a field or
a MIME part: control characters are removed, and lengths are limited.
"""

import base64
import binascii
import re

from relay.smtp.parameters import decode_xtext, is_xtext
from relay.smtp.reply import detail_in
from relay_config.names import is_address
from relay_queue.model import Recipient

_TEXT_MAX = 1000
_WIDTH = 76
_PIECE_MAX = 400
_REPLY = re.compile(r"[2345][0-9]{2}(?=[ -]|$)")
_ENCODED = re.compile(rb"=\?([A-Za-z0-9_-]{1,40})(?:\*[A-Za-z0-9-]{1,40})?\?([QqBb])\?([!->@-~]{0,1000})\?=")
_BETWEEN = re.compile(rb"(\?=)[ \t]+(?==\?)")
_ENHANCED = re.compile(r"(?:[2345][0-9]{2}[ -])?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?:\s|$)")


def printable(text: str, *, utf8: bool = False) -> str:
    """Return one line without control characters, at most 1,000 characters; ASCII unless `utf8`."""
    text = text[:_TEXT_MAX]
    if not text.isprintable():
        text = "".join([char if char.isprintable() else " " for char in text])
    if not utf8 and not text.isascii():
        text = text.encode("ascii", "replace").decode("ascii")
    return " ".join(text.split())


def field(name: str, value: str) -> str:
    """Return a folded field with CRLF. `value` must have passed `printable`."""
    lines = [f"{name}:"]
    for word in value.split(" "):
        for start in range(0, len(word), _PIECE_MAX):
            piece = word[start : start + _PIECE_MAX]
            # The first word stays on the line of the field's name, because some parsers stop at an empty line.
            if (len(lines) == 1 and lines[0][-1:] == ":") or len(lines[-1]) + len(piece) + 1 <= _WIDTH:
                lines[-1] += f" {piece}"
            else:
                lines.append(f" {piece}")
    return "\r\n".join(lines) + "\r\n"


def decoded(value: bytes) -> str:
    """Return a field's value for display: unfolded, encoded words decoded (RFC 2047), printable."""
    value = _BETWEEN.sub(rb"\1", value[: 2 * _TEXT_MAX].replace(b"\r\n", b""))
    return printable(_ENCODED.sub(_word, value).decode("utf-8", "replace"), utf8=True)


def _word(match: re.Match[bytes]) -> bytes:
    charset, encoding, octets = match.groups()
    try:
        if encoding in b"Bb":
            octets = base64.b64decode(octets + b"=" * (-len(octets) % 4), validate=True)
        else:
            octets = binascii.a2b_qp(octets, header=True)
        return octets.decode(charset.decode("ascii"), "replace").encode("utf-8", "replace")
    except (ValueError, LookupError):
        return match.group()


def xtext(value: str, *, utf8: bool = False) -> str:
    """Decode an xtext value and make it printable; a value that is not xtext is only made printable."""
    return printable(decode_xtext(value) if is_xtext(value) else value, utf8=utf8)


def server_name(remote: str) -> str:
    """Return `host[address]` of a server recorded as `host[address]:port`, for people."""
    host, bracket, rest = remote.partition("[")
    return printable(f"{host}[{rest.rpartition(']')[0]}]" if bracket else host)


def mta_name(remote: str) -> str:
    """Return the name of a server recorded as `host[address]:port`; addresses as literals (RFC 5321 §4.1.3)."""
    host = printable(remote.partition("[")[0])
    if not is_address(host):
        return host
    return f"[IPv6:{host}]" if ":" in host else f"[{host}]"


def ended_by_admin(recipient: Recipient, *, utf8: bool) -> str:
    """Return the statement that an administrator failed the recipient, with the reason."""
    return f"An administrator of this server gave it up: {printable(recipient.reason or '', utf8=utf8)}"


def is_reply(text: str) -> bool:
    """Whether a recorded outcome is an SMTP reply rather than an error of ours."""
    return _REPLY.match(text) is not None


def enhanced_code(text: str) -> str | None:
    """Return the enhanced status code of a recorded outcome, if any: at its place, or anywhere in an SMTP reply."""
    match = _ENHANCED.match(text)
    if match:
        return match[1]
    detail = detail_in(text) if is_reply(text) else ""
    return f"{text[0]}.{detail}" if detail else None
