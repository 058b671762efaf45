"""Decodes the encoded words of header fields (RFC 2047). For display only: sent messages are never decoded.

Pure, and never raises: text that cannot be decoded is not changed. The result may contain control characters.
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
"""Permitted character sets. Some other codecs of Python do more than decode text (`zip`, `unicode_escape`, `idna`)."""


def decoded(value: str) -> str:
    """Return a field's value with its encoded words decoded; blanks between two of them are dropped (§6.2)."""
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
