"""The byte sequences by which one message was made to look like two (VU#302671), and how to see that none did."""

import re

VARIANTS = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n .\r\n",
    b"\r\n. \r\n",
    b"\n\n.\n\n",
    b"\x0b.\x0b",
    b"\x0c.\x0c",
    b"\x1c.\x1c",
    b"\x1d.\x1d",
    b"\x1e.\x1e",
    b"\xc2\x85.\xc2\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
    b"\x85.\x85",
    b"\r\n..\r\n",
]
SMUGGLED = b"MAIL FROM:<smuggled@evil.test>\r\nRCPT TO:<user@rcpt.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx\r\n.\r\n"
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)")


def bare(octets: bytes) -> bool:
    """Whether there is a CR or LF on its own."""
    return _BARE.search(octets) is not None


def one_end(raw: bytes) -> bool:
    """Whether octets after DATA are one message: no bare line ends, one final dot, and every other dot-line stuffed."""
    lines = raw.split(b"\r\n")
    assert lines[-2:] == [b".", b""], raw[-20:]
    stuffed = all(line.startswith(b"..") for line in lines[:-2] if line.startswith(b"."))
    return not bare(raw) and stuffed and (b"\r\n" + raw).count(b"\r\n.\r\n") == 1
