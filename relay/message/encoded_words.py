"""Encoded words of header fields as people read them (RFC 2047). For display only: what is sent is never decoded.

Pure and total: whatever cannot be decoded stays as it is. The result may hold any character, control characters too.
"""

import base64
import binascii
import re
from typing import Final

_WORD: Final = re.compile(r"=\?([!->@-~]{1,40})\?([bBqQ])\?([!->@-~]*)\?=")
_BETWEEN: Final = re.compile(rf"({_WORD.pattern})[ \t\r\n]+(?={_WORD.pattern})")
_HEX: Final = re.compile(rb"=([0-9A-Fa-f]{2})")
_CHARSET: Final = re.compile(
    r"(?i)us-ascii|utf-?(?:7|8|16|32)(?:[bl]e)?|iso-?[0-9][0-9a-z_-]*|windows-?[0-9]+|cp[0-9]+|koi8-[rut]|mac[a-z]+"
    r"|gb(?:k|2312|18030)|hz-gb-2312|big5(?:-?hkscs)?|euc-?(?:jp|kr|cn)|shift[_-]?jis|tis-620"
)
"""Character sets of mail. Python's other codecs do more than decode text (`zip`, `unicode_escape`, `idna`)."""


def decoded(value: str) -> str:
    """A field's value with its encoded words decoded; blanks between two of them are no part of the text (§6.2)."""
    if "=?" not in value:
        return value
    return _WORD.sub(_decode, _BETWEEN.sub(r"\1", value))


def _decode(match: re.Match[str]) -> str:
    charset, encoding, text = match[1].partition("*")[0], match[2], match[3]  # RFC 2231 §5: a language may follow
    if not _CHARSET.fullmatch(charset):
        return match[0]
    try:
        octets = _quoted(text) if encoding in "qQ" else base64.b64decode(text + "=" * (-len(text) % 4))
        return octets.decode(charset, "replace")
    except (binascii.Error, LookupError, UnicodeError):
        return match[0]


def _quoted(text: str) -> bytes:
    octets = text.encode("ascii").replace(b"_", b" ")
    return _HEX.sub(lambda found: bytes.fromhex(found[1].decode("ascii")), octets)
