"""What a DNS look-up can say, as plain values: the border between dnspython and the rules of routing.

`relay.delivery.resolver` makes them, `relay.delivery.routes` judges them, tests write them down by hand.
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
    """The records of a name; none when the name exists without that type (RFC 2308 §2.2, NODATA)."""

    records: tuple[str, ...]
    """Addresses in text."""
    ttl: float
    """Seconds: the least TTL of the records and of the aliases before them (of the SOA when there are none)."""


@dataclass(slots=True, frozen=True)
class FoundMx:
    """The MX records of a name; none when it has none."""

    records: tuple[tuple[int, str], ...]
    """(preference, host); the host in lower case without a final dot, "" for the root, and unchecked otherwise."""
    ttl: float
    """As `Found.ttl`."""


@dataclass(slots=True, frozen=True)
class Absent:
    """The name does not exist (NXDOMAIN), on the word of a name server that answered properly."""

    ttl: float
    """Seconds this may be believed (RFC 2308 §5)."""


@dataclass(slots=True, frozen=True)
class Failed:
    """Nothing was learned: SERVFAIL, time-out, refusal, nonsense, a chain of aliases that does not end."""

    text: str
    """Why, in a few printable words."""
    local: bool = False
    """Our own machine is at fault (descriptors, memory, its network, its name server): it says nothing of the name."""


@dataclass(slots=True, frozen=True)
class Unaskable:
    """The text cannot be put into a query (a label over 63 octets, an empty label, a name over 255)."""

    text: str


class Lookups(Protocol):
    """Who can be asked. Neither method raises, except for cancellation."""

    async def mx(self, name: str) -> FoundMx | Absent | Failed | Unaskable:
        """The name's MX records."""
        ...

    async def addresses(self, name: str, family: Family) -> Found | Absent | Failed | Unaskable:
        """The name's addresses of one family."""
        ...
