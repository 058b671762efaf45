"""Records of a worker's report on its lanes. They are separate so that the CLI need not import all of delivery."""

import msgspec


class Piece(msgspec.Struct, array_like=True):
    """One message for some of its recipients."""

    id: str
    ns: tuple[int, ...]


class OnWire(msgspec.Struct, omit_defaults=True):
    """A transaction in progress."""

    piece: Piece
    remote: str
    """`host[address]:port`."""
    since: float
    """Seconds since the epoch."""
    stage: str = ""
    """The command whose reply is awaited: `MAIL`, `RCPT`, `DATA`, `end`; `message` while the message is being sent."""


class LaneReport(msgspec.Struct, omit_defaults=True):
    """One lane's share in one worker."""

    name: str
    paused_until: float = 0.0
    """Seconds since the epoch; 0: not paused."""
    cause: str = ""
    """Why the lane is paused."""
    limit: str = ""
    """The limit that the next work waits for: `rate`, `connections`, `connection_rate`; empty: none."""
    rate: str = ""
    """The rate of the whole lane, formatted as in the settings; empty: no limit."""
    max_connections: int = 0
    """Limit of the whole lane."""
    waiting: int = 0
    """Number of works in the window."""
    line: list[Piece] = []
    """The first of these works, in order."""
    wire: list[OnWire] = []
    connecting_since: float = 0.0
    """When the oldest pending connection attempt began, in seconds since the epoch; 0: none is pending."""
    domains: list[str] = []
    """Domains with more due mail in the queue."""


class WorkerReport(msgspec.Struct, omit_defaults=True):
    """The report of one worker."""

    at: float
    """Seconds since the epoch."""
    lanes: list[LaneReport] = []
    suspended: dict[str, str] = {}
    """Names of lanes that an administrator suspended, by domain with due mail."""
