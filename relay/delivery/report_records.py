"""What a worker tells of its lanes: records only, so that the shell can read them without the rest of delivery."""

import msgspec


class Piece(msgspec.Struct, array_like=True):
    """One message for some of its recipients."""

    id: str
    ns: tuple[int, ...]


class OnWire(msgspec.Struct, omit_defaults=True):
    """A transaction that has begun."""

    piece: Piece
    remote: str
    """`host[address]:port`."""
    since: float
    """Seconds since the epoch."""
    stage: str = ""
    """What the server is to answer: `MAIL`, `RCPT`, `DATA`, `end`; `message` while the message is being sent."""


class LaneReport(msgspec.Struct, omit_defaults=True):
    """One lane's share in one worker."""

    name: str
    paused_until: float = 0.0
    """Seconds since the epoch; 0: it is not paused."""
    cause: str = ""
    """Why it is paused."""
    limit: str = ""
    """What the first in line waits for: `rate`, `connections`, `connection_rate`; empty: none of its limits."""
    rate: str = ""
    """The rate of the whole lane in words; empty: no limit."""
    max_connections: int = 0
    """Of the whole lane."""
    waiting: int = 0
    """Works in line."""
    line: list[Piece] = []
    """The first of them, in order."""
    wire: list[OnWire] = []
    connecting_since: float = 0.0
    """When the oldest connection that is still being opened was begun; 0: none is."""
    domains: list[str] = []
    """Domains with more mail that is due and waits in the queue."""


class WorkerReport(msgspec.Struct, omit_defaults=True):
    """All of one worker."""

    at: float
    """Seconds since the epoch."""
    lanes: list[LaneReport] = []
    suspended: dict[str, str] = {}
    """Lanes that an administrator has stopped, by the domains for which mail is due."""
