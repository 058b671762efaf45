"""The interface between lanes and transports: SMTP today, providers' HTTP APIs later.

A lane uses only sessions and reports. Nothing here depends on a protocol, a reply code or a socket. A transport maps
every error to a `Report` or a `Failure`; its methods raise only the exceptions that their docstrings name.
"""

import enum
from collections.abc import Callable
from typing import BinaryIO, Protocol

import msgspec

from relay.delivery.outcome import Outcome
from relay_queue.model import Message, Recipient


class Progress(enum.IntEnum):
    """How far an attempt got. The values are ordered and can be compared."""

    NOTHING = 0
    """The peer received nothing of the message."""
    ENVELOPE = 1
    """The peer received the envelope or part of it."""
    CONTENT = 2
    """The peer received part of the content."""
    UNCERTAIN = 3
    """The peer received all of the content but did not reply: it may have accepted the message."""
    ANSWERED = 4
    """The peer replied for every recipient."""


class Capacity(msgspec.Struct, frozen=True):
    """The peer's limits for one transaction; None: no known limit."""

    recipients: int | None = None
    domains: int | None = None
    """Number of different recipient domains."""


class Parcel(msgspec.Struct):
    """The content and recipients of one transaction."""

    message: Message
    recipients: list[Recipient]
    head: bytes
    """The content, or its first part if `open_rest` is given."""
    open_rest: Callable[[], BinaryIO] | None = None
    """Opens the rest of a large message; may block."""


class Report(msgspec.Struct):
    """The result of a transaction."""

    outcomes: list[Outcome]
    """One outcome for each recipient of the parcel, in order."""
    progress: Progress
    remote: str | None = None
    """The server that replied (`host[address]:port`)."""
    reusable: bool = False
    """The session can carry another transaction."""
    reports_delivery: bool = False
    """The peer accepted the DSN requests and sends delivery reports itself (RFC 3461 §5.2.2)."""
    stale: bool = False
    """The peer had closed the session before this transaction began, so it does not count as an attempt."""
    pause: str | None = None
    """Why the whole lane should pause; None: no pause."""
    pause_for: float = 0.0
    """Length of that pause in seconds; 0: use the lane's back-off."""


class Failure(msgspec.Struct, frozen=True):
    """The result if no session could be opened."""

    outcome: Outcome
    """The outcome for all mail that waits for a session."""
    text: str
    """The reason as readable text."""
    remote: str | None = None
    """The server that refused (`host[address]:port`); None: no server replied."""


class Session(Protocol):
    """A connection to a peer, or its equivalent. It carries one transaction at a time."""

    on_close: Callable[[], None] | None
    """Called once when the session ends, whichever side ends it."""

    @property
    def remote(self) -> str:
        """The peer (`host[address]:port`)."""
        ...

    @property
    def stage(self) -> str:
        """The reply that is awaited, in one readable word; empty: none."""
        ...

    @property
    def capacity(self) -> Capacity:
        """The peer's limits for one transaction."""
        ...

    @property
    def usable(self) -> bool:
        """Whether `send` may be called."""
        ...

    async def send(self, parcel: Parcel) -> Report:
        """Make one transaction. Raises `BodyDamagedError` if the stored message turns out to be damaged."""
        ...

    async def quit(self) -> None:
        """End the session politely and close the connection."""
        ...

    def abort(self) -> None:
        """Close the connection at once."""
        ...
