"""The seam between lanes and what carries mail: SMTP today, providers' HTTP interfaces later.

A lane knows sessions and reports. Nothing here names a protocol, a reply code or a socket. A transport maps all that
can go wrong to a `Report` or a `Failure`; its methods raise only what their docstrings name.
"""

import enum
from collections.abc import Callable
from typing import BinaryIO, Protocol

import msgspec

from relay.delivery.outcome import Outcome
from relay_queue.model import Message, Recipient


class Progress(enum.IntEnum):
    """How far an attempt got. The numbers are in order, so that they can be compared."""

    NOTHING = 0
    """The peer saw nothing of the message."""
    ENVELOPE = 1
    """It saw the envelope, or a part of it."""
    CONTENT = 2
    """It saw a part of the content."""
    UNCERTAIN = 3
    """It has all of the content and gave no answer: it may have taken the message."""
    ANSWERED = 4
    """It answered for every recipient."""


class Capacity(msgspec.Struct, frozen=True):
    """What a peer takes in one transaction; None: no limit is known."""

    recipients: int | None = None
    domains: int | None = None
    """Different recipient domains."""


class Parcel(msgspec.Struct):
    """One transaction to be made."""

    message: Message
    recipients: list[Recipient]
    head: bytes
    """The content, or its first part where `open_rest` is given."""
    open_rest: Callable[[], BinaryIO] | None = None
    """Opens the rest of a large message; may block."""


class Report(msgspec.Struct):
    """What came of a transaction."""

    outcomes: list[Outcome]
    """For each recipient of the parcel, in order."""
    progress: Progress
    remote: str | None = None
    """Who answered, as people read it (`host[address]:port`)."""
    reusable: bool = False
    """The session can carry another transaction."""
    reports_delivery: bool = False
    """The peer took over the requests for delivery reports (RFC 3461 §5.2.2)."""
    stale: bool = False
    """The session had been given up by the peer before this transaction began: no attempt was made."""
    pause: str | None = None
    """Why the whole lane should pause, where the peer or the failure says so."""
    pause_for: float = 0.0
    """Seconds of that pause; 0: as the lane's back-off has it."""


class Failure(msgspec.Struct, frozen=True):
    """No session came about."""

    outcome: Outcome
    """What that means for the mail that waits for one."""
    text: str
    """Why, as people read it."""
    remote: str | None = None
    """Who refused, if a peer did."""


class Session(Protocol):
    """A connection to a peer, or whatever stands for one. It carries one transaction at a time."""

    on_close: Callable[[], None] | None
    """Called once when it ends, whoever ends it."""

    @property
    def remote(self) -> str:
        """The peer, as people read it (`host[address]:port`)."""
        ...

    @property
    def stage(self) -> str:
        """What the peer is to answer at the moment, in a word for people; empty: nothing."""
        ...

    @property
    def capacity(self) -> Capacity:
        """What the peer takes in one transaction."""
        ...

    @property
    def usable(self) -> bool:
        """Whether `send` may be called."""
        ...

    async def send(self, parcel: Parcel) -> Report:
        """Make one transaction. Raises `BodyDamagedError` where the stored message proves damaged on the way."""
        ...

    async def quit(self) -> None:
        """Take leave and close."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...
