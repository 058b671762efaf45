"""SMTP replies as values (RFC 5321 §4.2, enhanced codes RFC 2034 and RFC 3463)."""

import re
from typing import Final

import msgspec

# Matches an enhanced code that a server wrote in another form than RFC 2034 requires: `#5.1.1`, `(#5.1.1)`, `5.1.1:`,
# or with a class that differs from the reply's. Does not match within an IP address or a longer number.
_DETAIL: Final = re.compile(r"(?<![\w.])[45]\.(\d{1,3}\.\d{1,3})(?![\w]|\.\d)", re.ASCII)
_DETAIL_WITHIN: Final = 500
"""Number of characters at the start of a text that are searched for a code."""


def detail_in(text: str) -> str:
    """Subject and detail (`1.1`) of the first enhanced status code in a reply's text; empty if there is none."""
    found = _DETAIL.search(text, 0, _DETAIL_WITHIN)
    return found[1] if found is not None else ""


class Reply(msgspec.Struct, frozen=True):
    """One reply, ours or a peer's."""

    code: int
    """Three digits, 200 to 599."""
    enhanced: str
    """`class.subject.detail`, e.g. `5.7.1`; empty where none is sent (greeting, EHLO, 354, some peers)."""
    text: str
    """The text without codes; lines are separated by LF."""

    @property
    def positive(self) -> bool:
        """2xx or 3xx."""
        return self.code < 400

    @property
    def temporary(self) -> bool:
        """4xx."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """5xx."""
        return self.code >= 500

    @property
    def detail(self) -> str:
        """Subject and detail of the enhanced code, wherever the server put it; empty if there is none."""
        return self.enhanced[2:] or detail_in(self.text)

    def encode(self) -> bytes:
        """The reply as sent: the code, and the enhanced code if there is one, on every line."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        if "\n" not in self.text:
            return f"{self.code} {prefix}{self.text}\r\n".encode()
        lines = self.text.split("\n")
        out = [f"{self.code}-{prefix}{line}\r\n" for line in lines[:-1]]
        out.append(f"{self.code} {prefix}{lines[-1]}\r\n")
        return "".join(out).encode("utf-8")

    def __str__(self) -> str:
        """The reply as one line for logs and display: codes and text, with lines joined by `/`."""
        codes = f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)
        text = self.text.replace("\n", " / ")
        return f"{codes} {text}" if text else codes
