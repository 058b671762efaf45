"""The data types of the SMTP client: connection targets, outgoing messages, results and errors."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Self

import msgspec

from relay.smtp.reply import Reply
from relay_config.schema import Delivery


class TlsPolicy(enum.Enum):
    """The TLS requirements of a connection. Set before connecting; the peer cannot weaken them."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    """STARTTLS if offered, with any certificate; plaintext if it is not offered or its handshake fails."""
    REQUIRED = "required"
    """STARTTLS with any certificate; without TLS the connection is not used."""
    VERIFY = "verify"
    """STARTTLS with a certificate that is valid for the host's name."""
    IMPLICIT = "implicit"
    """TLS from the first byte, with a certificate that is valid for the host's name (smarthosts on port 465)."""


@dataclass(slots=True, frozen=True)
class Target:
    """One address of one host."""

    host: str
    """Name of the MX or smarthost, used for SNI, certificate checks and the log."""
    address: str
    port: int


@dataclass(slots=True, frozen=True)
class Credentials:
    """User name and password for AUTH at a smarthost."""

    user: str
    password: str


@dataclass(slots=True, frozen=True, kw_only=True)
class Timeouts:
    """Time-outs in seconds (RFC 5321 §4.5.3.2)."""

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
    """For the reply to the final dot."""
    tail: float = 30.0
    """For the rest of that reply after its beginning was received; then the beginning alone counts."""
    envelope: float = 1800.0
    """For all replies from MAIL to DATA together: a peer that always replies just in time must not block for days."""
    quit: float = 2.0
    """For the reply to QUIT."""

    @classmethod
    def of(cls, delivery: Delivery) -> Self:
        """Return the time-outs of the settings. Those without a setting never exceed `command_timeout`."""
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
    """The data of one RCPT command."""

    address: str
    notify: str | None = None
    orcpt: str | None = None


class Outgoing(msgspec.Struct):
    """The data of one transaction."""

    sender: str
    recipients: list[OutgoingRecipient]
    head: bytes
    """The message, or its first part if `open_file` is given."""
    size: int
    """Size of the whole message in bytes."""
    eightbit: bool = False
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    open_file: Callable[[], BinaryIO] | None = None
    """Opens the rest of a large message; called in a thread."""
    file_checked: bool = False
    """The file proves by checksum that it was checked on acceptance, so its line ends are not checked again."""


class Result(msgspec.Struct):
    """The peer's replies to a transaction."""

    replies: list[Reply]
    """The final reply for each recipient, in order (to a refused RCPT, or to the message). Only a 2xx means that the
    peer took responsibility."""
    reusable: bool
    """The connection can carry another transaction."""
    dsn: bool = False
    """The peer offers DSN, so it is now responsible for success and delay reports (RFC 3461 §5.2)."""
    remote: str = ""
    """The server (`host[address]:port`)."""
    tls: str | None = None
    unasked: frozenset[int] = frozenset()
    """Indices of the `replies` that were generated locally: the peer was not asked about these recipients."""


class Stage(enum.Enum):
    """How far a session got before it broke."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a slow Python function

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
    """After the final dot, before the reply: the peer may have accepted the message."""


@dataclass(eq=False)
class SessionError(Exception):
    """The session broke, or the peer refused the whole session. All foreign exceptions are mapped to this one."""

    stage: Stage
    kind: str
    """`timeout`, `closed`, `refused` (connection), `unreachable`, `tls`, `protocol`, `reply` (see `reply`), `local`."""
    text: str
    """One printable line."""
    reply: Reply | None = None
    """The peer's reply that ended the session (e.g. 421, or a 554 greeting); None: no reply did."""
    remote: str = ""
    partial: list[Reply | None] = field(default_factory=list)
    """If a transaction was running, the reply known for each recipient (None: none yet); otherwise empty."""
    fresh_connection_helps: bool = False
    """A reused connection broke before the peer replied to anything. Most likely the peer closed it while it was idle,
    so a new connection may be tried at once, as part of the same attempt."""

    @property
    def ambiguous(self) -> bool:
        """The whole message was sent without a reply, so the peer may have accepted it. Do not retry at once."""
        return self.stage is Stage.END and self.kind != "reply"

    def __str__(self) -> str:
        return self.text


def why_lost(error: Exception | None) -> str:
    """Describe briefly why an open connection ended."""
    if isinstance(error, OSError) and error.strerror:
        return f"connection lost: {error.strerror}"
    return "peer closed the connection"
