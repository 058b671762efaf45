"""What all sessions of a listener share: their settings, the handler, the certificate and the connection counts.

A reload creates new contexts; sessions keep the one they started with. Must not hold the state of a single session.
"""

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from relay.model.peer import client_of
from relay.smtp.server.connections import Connections
from relay.smtp.server.handler import Handler
from relay.smtp.server.rounds import Rounds
from relay_config.schema import Limits, Listener, Settings

_AUTH = "AUTH PLAIN LOGIN"
_RESERVED = 10
"""By default, one in this many connections is reserved for familiar clients."""


def _nobody(_address: str) -> bool:
    return False


@dataclass(slots=True)
class ServerContext:
    """Shared by the sessions of one listener."""

    hostname: str
    handler: Handler
    listener: Listener
    limits: Limits = field(default_factory=Limits)
    max_message_size: int = 50 << 20
    """Bytes."""
    max_recipients: int = 1000
    default_domain: str | None = None
    """Appended to addresses without a domain, for our own clients only (`submission.default_domain`)."""
    tls: ssl.SSLContext | None = None
    """TLS context with the server's certificate; None if there is no certificate; then STARTTLS is not offered."""
    connections: Connections = field(default_factory=Connections)
    """Kept across reloads: pass the existing object to the new context."""
    rounds: Rounds = field(default_factory=Rounds)
    """Schedules the work of the sessions in rounds."""
    exempt: Callable[[str], bool] = _nobody
    """Whether an address is exempt from `limits.connections_per_minute`."""
    familiar: Callable[[str], bool] = _nobody
    """Whether an address may use the reserved connections, because it is trusted or logged in recently."""
    handshake_timeout: float = 30.0
    """Seconds for a TLS handshake, and for the PROXY header."""
    rate_window: float = 60.0
    """Seconds over which `limits.data_rate` is averaged."""
    _extensions: dict[tuple[bool, bool], bytes] = field(default_factory=dict)

    @classmethod
    def from_settings(
        cls,
        settings: Settings,
        listener: Listener,
        handler: Handler,
        tls: ssl.SSLContext | None,
        connections: Connections,
        exempt: Callable[[str], bool] = _nobody,
        familiar: Callable[[str], bool] = _nobody,
    ) -> "ServerContext":
        """Create the context of a listener from the settings."""
        return cls(
            hostname=settings.hostname,
            handler=handler,
            listener=listener,
            limits=settings.limits,
            max_message_size=settings.submission.max_message_size,
            max_recipients=settings.submission.max_recipients,
            default_domain=settings.submission.default_domain,
            tls=tls if listener.tls != "none" else None,
            connections=connections,
            exempt=exempt,
            familiar=familiar,
        )

    def too_often(self, address: str) -> bool:
        """Count a new connection, and return whether the client connected too often in the last minute."""
        most = self.limits.connections_per_minute
        return bool(most) and not self.exempt(address) and self.connections.too_often(client_of(address), most)

    def places(self, address: str | None) -> int:
        """The total number of connections up to which this address may open another one.

        Clients that are not familiar may not use the reserved connections. `address` is None while the client is
        unknown because its PROXY header has not arrived; such a client is not restricted yet.
        """
        limits = self.limits
        reserved = (
            limits.connections // _RESERVED if limits.reserved_connections is None else limits.reserved_connections
        )
        strangers = max(0, limits.connections - reserved)
        # `familiar` is called only when few connections are left.
        if len(self.connections) < strangers or address is None or self.familiar(address):
            return limits.connections
        return strangers

    @property
    def greeting(self) -> bytes:
        """The first line (RFC 5321 §3.1)."""
        return f"220 {self.hostname} ESMTP relay\r\n".encode()

    def ehlo(self, *, starttls: bool, auth: bool) -> bytes:
        """The reply to EHLO, with the extensions on offer at this point of a session."""
        wire = self._extensions.get((starttls, auth))
        if wire is None:
            wire = self._extensions[starttls, auth] = self._encode_ehlo(starttls=starttls, auth=auth)
        return wire

    def _encode_ehlo(self, *, starttls: bool, auth: bool) -> bytes:
        lines = [
            self.hostname,
            "PIPELINING",
            f"SIZE {self.max_message_size}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            *(["STARTTLS"] if starttls else []),
            *([_AUTH] if auth else []),
            "DSN",
            "CHUNKING",
            f"LIMITS RCPTMAX={self.max_recipients}",
        ]
        return "".join(f"250{' ' if line is lines[-1] else '-'}{line}\r\n" for line in lines).encode()


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    """Whether an IP address, as text, is a loopback address; False for text that is not an address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
