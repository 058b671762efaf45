"""The nouns of the client's side: where to connect, what to send, what came of it."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Self

import msgspec

from relay.smtp.reply import Reply
from relay_config.schema import Delivery


class TlsPolicy(enum.Enum):
    """What a connection must offer. Decided before connecting, never loosened by what the peer says."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    """STARTTLS where offered, any certificate; plaintext when it is not offered or its handshake fails."""
    REQUIRED = "required"
    """TLS, any certificate; without it the connection is of no use."""
    VERIFY = "verify"
    """TLS with a certificate valid for the host's name."""
    IMPLICIT = "implicit"
    """TLS from the first octet, certificate valid for the host's name (smarthosts on 465)."""


@dataclass(slots=True, frozen=True)
class Target:
    """One address of one host."""

    host: str
    """The MX's or smarthost's name (for SNI, certificate checks and the log)."""
    address: str
    port: int


@dataclass(slots=True, frozen=True)
class Credentials:
    """For AUTH at a smarthost."""

    user: str
    password: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Timeouts:
    """Longest waits, in seconds (RFC 5321 §4.5.3.2)."""

    connect: float = 30.0
    """For the TCP connection to one address."""
    command: float = 300.0
    """For the greeting and each reply to EHLO, AUTH, MAIL, RCPT and RSET."""
    handshake: float = 60.0
    """For a TLS handshake."""
    data: float = 120.0
    """For the reply to DATA."""
    block: float = 180.0
    """For the peer to take one block (256 KiB) of a message."""
    end: float = 600.0
    """For the reply to a message's end."""
    tail: float = 30.0
    """For the rest of that reply once its beginning has come, at most; then the beginning counts."""
    envelope: float = 1800.0
    """For all replies from MAIL to DATA together, so that a peer that answers just in time can't hold us for days."""
    quit: float = 2.0
    """For the reply to QUIT."""

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """From the settings; the waits that have no setting are never longer than `command_timeout`."""
        usual = cls()
        command = float(delivery.command_timeout)
        return cls(
            connect=float(delivery.connect_timeout),
            command=command,
            handshake=min(usual.handshake, command),
            data=min(usual.data, command),
            block=min(usual.block, command),
            end=float(delivery.data_timeout),
        )


class OutgoingRecipient(msgspec.Struct, frozen=True):
    """One RCPT."""

    address: str
    notify: str | None = None
    orcpt: str | None = None


class Outgoing(msgspec.Struct):
    """One transaction to be made."""

    sender: str
    recipients: list[OutgoingRecipient]
    head: bytes
    """The message, or the first part of it when `open_file` is given."""
    size: int
    """Octets of the whole message."""
    eightbit: bool = False
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    open_file: Callable[[], BinaryIO] | None = None
    """Opens the rest of a large message."""
    file_checked: bool = False
    """The file holds what was checked on acceptance, and proves it: line ends need not be counted again."""


class Result(msgspec.Struct):
    """What the peer said to a transaction."""

    replies: list[Reply]
    """The final reply for each recipient, in order (a refused RCPT's, or the message's). Only a 2xx here means
    that the peer took responsibility."""
    reusable: bool
    """The connection can carry another transaction."""
    dsn: bool = False
    """The peer offered DSN, so it reports success and delay from here on (RFC 3461 §5.2)."""
    remote: str = ""
    """`host[address]:port` for the history."""
    tls: str | None = None
    unasked: frozenset[int] = frozenset()
    """Places in `replies` of those that are our own words: the peer was not asked about these recipients."""


class Stage(enum.Enum):
    """How far a session got before it broke."""

    __hash__ = object.__hash__  # each is one object; Enum's own hash is a call of a Python function

    CONNECT = "connect"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """While the message was being sent."""
    END = "end"
    """After the final dot, before the reply: the peer may have taken the message."""


@dataclass(eq=False)
class SessionError(Exception):
    """The session broke or the peer refused it as a whole. All foreign exceptions are mapped to this, once."""

    stage: Stage
    kind: str
    """`timeout`, `closed`, `refused` (connection), `unreachable`, `tls`, `protocol`, `reply` (see `reply`), `local`."""
    text: str
    """One printable line."""
    reply: Reply | None = None
    """The peer's reply that ended it, if one did (e.g. 421 or 554 greeting)."""
    remote: str = ""
    partial: list[Reply | None] = field(default_factory=list)
    """Replies already known per recipient when it broke in mid-transaction; empty outside of one."""
    fresh_connection_helps: bool = False
    """It broke on a kept connection before anything was answered there: most likely the peer hung up while it was idle,
    so a new connection may be tried at once, as part of the same attempt."""

    @property
    def ambiguous(self) -> bool:
        """The whole message was sent and no reply came: the peer may have taken it. Retry late, not at once."""
        return self.stage is Stage.END and self.kind != "reply"

    def __str__(self) -> str:
        return self.text


def why_lost(error: Exception | None) -> str:
    """Why a connection that was open ended, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return f"connection lost: {error.strerror}"
    return "peer closed the connection"
