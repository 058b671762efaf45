"""Questions about lines that are asked of every octet that comes in, and once more of every octet that goes out."""

import io
import re

_CLEAN = (None, "\r\n")
_DOTTED = re.compile(rb"\r\n\.")
_SHORT = 8192
"""Octets that the pattern goes through in no more time than the header's dots take one by one."""
_FEW = 50
"""Dots that are looked at one by one: what a header has."""


def only_crlf(octets: bytes) -> bool:
    """No CR or LF is bare (RFC 5321 §2.3.8). A CR at the very end is.

    The decoder for universal newlines notes which kinds it meets, in one pass in C: a quarter of what counting costs.
    """
    decoder = io.IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(octets.decode("latin-1"), final=True)
    return decoder.newlines in _CLEAN


def dotted_line(octets: bytes) -> int:
    """Where the first CRLF with a dot behind it is, or -1.

    In a long piece single dots are looked for first: that goes at many times the speed, and large messages are mostly
    base64, which has none.
    """
    dot = -1
    for _ in range(_FEW if len(octets) > _SHORT else 0):
        dot = octets.find(b".", dot + 1)
        if dot < 0:
            return -1
        if octets[max(0, dot - 2) : dot] == b"\r\n":
            return dot - 2
    found = _DOTTED.search(octets, max(0, dot - 1))
    return found.start() if found is not None else -1
