"""Checks of line ends. They run on every byte received and again on every byte sent, so they are tuned for speed."""

import io
import re

_CLEAN = (None, "\r\n")
_DOTTED = re.compile(rb"\r\n\.")
_SHORT = 8192
"""Bytes. Up to this length, searching with the pattern takes no longer than checking a header's dots one by one."""
_FEW = 50
"""Number of dots that are checked one by one: about as many as a header has."""


def only_crlf(octets: bytes) -> bool:
    """Whether there is no bare CR or LF (RFC 5321 §2.3.8). A CR at the very end counts as bare.

    The decoder for universal newlines records which kinds of line end it finds, in one pass in C; this takes a quarter
    of the time that counting them takes.
    """
    decoder = io.IncrementalNewlineDecoder(None, translate=False)
    decoder.decode(octets.decode("latin-1"), final=True)
    return decoder.newlines in _CLEAN


def dotted_line(octets: bytes) -> int:
    """The index of the first CRLF that is followed by a dot, or -1.

    In a long piece, single dots are searched first: this is many times faster, and large messages are mostly base64,
    which contains no dots.
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
