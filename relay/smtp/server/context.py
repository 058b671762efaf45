"""What all sessions of a listener share: the settings that concern them, the handler, the certificate, the counts.

A reload makes new contexts; sessions keep the one they started with. Must hold nothing of a single session.
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
"""One connection of so many is reserved by default."""


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
    """Octets."""
    max_recipients: int = 1000
    default_domain: str | None = None
    """Completes addresses without a domain of clients of ours (`submission.default_domain`)."""
    tls: ssl.SSLContext | None = None
    """The server's certificate; None where there is none, then STARTTLS is not offered."""
    connections: Connections = field(default_factory=Connections)
    """Survives reloads: pass the old one on."""
    rounds: Rounds = field(default_factory=Rounds)
    """The turns that its sessions take."""
    exempt: Callable[[str], bool] = _nobody
    """Whether an address may connect as often as it likes."""
    familiar: Callable[[str], bool] = _nobody
    """Whether an address may take the places that strangers may not: it is trusted, or logged in lately."""
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
        """The context that the settings describe."""
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
        """Count that a client came; whether it came too often in the last minute."""
        most = self.limits.connections_per_minute
        return bool(most) and not self.exempt(address) and self.connections.too_often(client_of(address), most)

    def places(self, address: str | None) -> int:
        """How many connections there may be in all, so that this address may have one more.

        Strangers may not take the last ones. None: nobody knows yet who it is (a PROXY header is on its way).
        """
        limits = self.limits
        reserved = (
            limits.connections // _RESERVED if limits.reserved_connections is None else limits.reserved_connections
        )
        strangers = max(0, limits.connections - reserved)
        # Who it is matters only when places are scarce.
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
    """Whether an IP address in text is of this machine."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
