"""The SMTP extensions that a peer offers in its EHLO reply, as far as the client uses them (RFC 5321 §4.1.1.1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(slots=True, frozen=True)
class Features:
    """A peer's extensions. After HELO all are off."""

    pipelining: bool = False
    """RFC 2920."""
    eightbit: bool = False
    """8BITMIME, RFC 6152."""
    smtputf8: bool = False
    """RFC 6531."""
    dsn: bool = False
    """RFC 3461."""
    starttls: bool = False
    """RFC 3207."""
    sized: bool = False
    """SIZE is offered (RFC 1870)."""
    size: int | None = None
    """Largest message accepted, in bytes; None: not given, or no fixed limit (SIZE 0, RFC 1870 §4)."""
    auth: tuple[str, ...] = ()
    """SASL mechanisms in upper case (RFC 4954)."""
    mail_max: int | None = None
    """LIMITS MAILMAX: transactions per session (RFC 9422)."""
    rcpt_max: int | None = None
    """LIMITS RCPTMAX: recipients per transaction (RFC 9422)."""
    rcpt_domain_max: int | None = None
    """LIMITS RCPTDOMAINMAX: different domains of recipients per session (RFC 9422)."""

    @property
    def transactions(self) -> int | None:
        """Most transactions per session; None: no known limit."""
        # If domains per session are limited, the first transaction may already use all of them.
        return self.mail_max if self.rcpt_domain_max is None else 1

    @classmethod
    def parse(cls, extensions: Mapping[str, str]) -> Self:
        """Parse lower-case keywords with their parameters. Malformed ones count as not offered."""
        limits = dict(word.partition("=")[::2] for word in extensions.get("limits", "").upper().split())
        return cls(
            pipelining="pipelining" in extensions,
            eightbit="8bitmime" in extensions,
            smtputf8="smtputf8" in extensions,
            dsn="dsn" in extensions,
            starttls="starttls" in extensions,
            sized="size" in extensions,
            size=_number(extensions.get("size", "")),
            auth=tuple(extensions.get("auth", "").upper().split()),
            mail_max=_number(limits.get("MAILMAX", "")),
            rcpt_max=_number(limits.get("RCPTMAX", "")),
            rcpt_domain_max=_number(limits.get("RCPTDOMAINMAX", "")),
        )


def _number(text: str) -> int | None:
    """Parse a positive number in ASCII digits, else None. `int` would also accept signs and non-ASCII digits."""
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        return None
    return int(text) or None
