"""The possible results of a DNS look-up as plain values: the interface between dnspython and the routing rules.

`relay.delivery.resolver` creates them, `relay.delivery.routes` evaluates them, and tests construct them by hand.
"""

import enum
from dataclasses import dataclass
from typing import Protocol


class Family(enum.Enum):
    """An address family, by its record type."""

    V6 = "AAAA"
    V4 = "A"


@dataclass(slots=True, frozen=True)
class Found:
    """The address records of a name; empty if the name exists without that type (NODATA, RFC 2308 §2.2)."""

    records: tuple[str, ...]
    """Addresses in text form."""
    ttl: float
    """Seconds: the lowest TTL of the records and of the aliases that lead to them (of the SOA if there are none)."""


@dataclass(slots=True, frozen=True)
class FoundMx:
    """The MX records of a name; empty if the name exists without MX records."""

    records: tuple[tuple[int, str], ...]
    """(preference, host). The host is in lower case without a final dot, "" for the root; its syntax is not checked."""
    ttl: float
    """As `Found.ttl`."""


@dataclass(slots=True, frozen=True)
class Absent:
    """A name server answered that the name does not exist (NXDOMAIN)."""

    ttl: float
    """Seconds for which this answer may be cached (RFC 2308 §5)."""


@dataclass(slots=True, frozen=True)
class Failed:
    """The look-up gave no answer: SERVFAIL, time-out, refusal, malformed answer, or too many aliases."""

    text: str
    """Why, in a few printable words."""
    local: bool = False
    """This machine is at fault (descriptors, memory, network, name server); the failure is not about the name."""


@dataclass(slots=True, frozen=True)
class Unaskable:
    """The text cannot be put into a query (empty label, label over 63 octets, or name over 255 octets)."""

    text: str


class Lookups(Protocol):
    """Interface for DNS look-ups. The methods raise nothing except on cancellation."""

    async def mx(self, name: str) -> FoundMx | Absent | Failed | Unaskable:
        """Look up the name's MX records."""
        ...

    async def addresses(self, name: str, family: Family) -> Found | Absent | Failed | Unaskable:
        """Look up the name's addresses of one family."""
        ...
