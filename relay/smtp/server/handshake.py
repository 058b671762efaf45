"""Explain failed TLS handshakes: the reason, and what the client offered.

Event loops report a failed handshake as an exception with little information: a client without a common TLS version,
one that does not trust the certificate and one that disconnected may look the same, and what the client offered is
lost. Therefore the listeners' `ObservingContext` keeps the first bytes that each client sent, copied on their way to
OpenSSL. This works with asyncio and uvloop, both after STARTTLS and with implicit TLS, because both loops create their
TLS objects with `SSLContext.wrap_bio`. Must not influence a handshake.
"""

import asyncio
import ssl
from contextvars import ContextVar
from typing import Any, Final

from relay.model.peer import TlsFailure
from relay.smtp.server import client_hello
from relay.smtp.server.session import Phase, Session

_MOST: Final = 16 * 1024
"""Maximum number of bytes kept of a client's handshake."""

_EXPLANATIONS: Final = {
    "UNSUPPORTED_PROTOCOL": "the client offers no TLS version that is allowed here",
    "VERSION_TOO_LOW": "the client offers no TLS version that is allowed here",
    "NO_SHARED_CIPHER": "the client offers no cipher that is allowed here",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "the client accepts no signature that the certificate's key can make",
    "NO_SHARED_SIGNATURE_ALGORITHMS": "the client accepts no signature that the certificate's key can make",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the client allows no TLS version that is allowed here",
    "TLSV1_ALERT_UNKNOWN_CA": "the client does not trust the certificate's issuer",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the client does not accept the certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the client does not accept the certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the client says that the certificate has expired",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "the client does not support this kind of certificate",
    "TLSV1_ALERT_USER_CANCELLED": "the client gave up",
}


class Handshake:
    """The observations of one handshake."""

    __slots__ = ("octets", "seen")

    def __init__(self) -> None:
        self.octets = b""
        """The first bytes that the client sent."""
        self.seen = False
        """An `ObservingContext` is in use, so `octets` holds all bytes received, up to 16 KiB."""

    def succeeded(self) -> None:
        """Free the bytes: an event loop may keep this object as long as the connection exists."""
        self.octets = b""


_current: ContextVar[Handshake | None] = ContextVar("handshake", default=None)


def observe(handshake: Handshake | None = None) -> Handshake:
    """Start to observe a handshake before it is performed. Returns the given object, or a new one.

    Call it in the task that performs the handshake; asyncio uses that task's context variables. For STARTTLS, also call
    it when the connection is made, because uvloop saves the context variables then and uses them for the handshake.
    """
    made = Handshake() if handshake is None else handshake
    _current.set(made)
    return made


class ObservingObject(ssl.SSLObject):
    """A TLS connection that keeps the first bytes the client sent."""

    observed: Handshake | None = None
    incoming: ssl.MemoryBIO

    def do_handshake(self) -> None:
        """See `ssl.SSLObject`. Event loops call it each time bytes have arrived."""
        handshake = self.observed
        if handshake is not None:
            octets = self.incoming.read()
            self.incoming.write(octets)
            handshake.octets += octets[: _MOST - len(handshake.octets)]
            if client_hello.complete(handshake.octets) or len(handshake.octets) >= _MOST:
                self.observed = None
        super().do_handshake()


class ObservingContext(ssl.SSLContext):
    """A listener's TLS context, which creates `ObservingObject`s."""

    sslobject_class = ObservingObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *arguments: Any, **more: Any) -> ssl.SSLObject:
        """See `ssl.SSLContext`."""
        made = super().wrap_bio(incoming, outgoing, *arguments, **more)
        handshake = _current.get()
        if handshake is not None and isinstance(made, ObservingObject):
            handshake.seen = True
            made.observed = handshake
            made.incoming = incoming
        return made


async def upgrade(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    handshake: Handshake | None,
    patience: float,
) -> asyncio.Transport | TlsFailure:
    """Perform the TLS handshake on a plain connection, in at most `patience` seconds.

    `handshake` is what `observe` returned when the connection was made. Returns the TLS transport, or the failure.
    """
    handshake = observe(handshake)
    error: Exception | None = None
    try:
        secured = await asyncio.get_running_loop().start_tls(
            transport, protocol, context, server_side=True, ssl_handshake_timeout=patience
        )
    except (TimeoutError, OSError, RuntimeError) as failed:
        secured, error = None, failed
    if secured is None:
        return failure(error, handshake, patience)
    handshake.succeeded()
    return secured


def describe(transport: asyncio.BaseTransport) -> str | None:
    """TLS version and cipher of a transport; None without TLS."""
    secured = transport.get_extra_info("ssl_object")
    return f"{secured.version()} {secured.cipher()[0]}" if secured is not None else None


def failure(error: BaseException | None, handshake: Handshake, patience: float) -> TlsFailure:
    """The failure of a handshake that ended with `error` (None: without an exception); its limit was `patience` s."""
    hello = client_hello.parse(handshake.octets)
    reason = _reason(error, handshake, patience)
    return TlsFailure(reason) if hello is None else TlsFailure(reason, hello.versions, hello.ciphers, hello.name)


def never_began(error: BaseException | None, handshake: Handshake) -> bool:
    """Whether the client connected and left without sending anything, as port scans and load balancers' checks do."""
    return handshake.seen and not handshake.octets and isinstance(error, ConnectionResetError | BrokenPipeError)


def abandoned(session: Session, commands: int, error: BaseException | None) -> TlsFailure | None:
    """The failure if a client disconnected right after the handshake; None if it sent a command after it.

    `commands` is the number of commands before TLS began. Some clients (those using GnuTLS, such as msmtp) finish the
    handshake before they check the certificate, and just disconnect if they reject it. There is no other sign of this.
    """
    tls = session.peer.tls
    if tls is None or session.commands > commands or session.phase is not Phase.COMMAND or session.draining:
        return None
    version, _, cipher = tls.partition(" ")
    said = "the client closed the connection right after the handshake; it may not trust the certificate"
    if isinstance(error, ssl.SSLError) and error.reason in _EXPLANATIONS:
        said = _in_words(error.reason)
    return TlsFailure(said, (version,), (cipher,))


def _in_words(reason: str) -> str:
    """OpenSSL's reason in readable words, with our explanation if there is one."""
    words = reason.replace("_", " ").lower()
    explanation = _EXPLANATIONS.get(reason)
    return words if explanation is None else f"{explanation} ({words})"


def _reason(error: BaseException | None, handshake: Handshake, patience: float) -> str:
    octets = handshake.octets
    if octets and octets[0] != client_hello.HANDSHAKE:
        return "the client did not begin with a TLS handshake; it may expect plaintext or STARTTLS here"
    if isinstance(error, TimeoutError | ConnectionAbortedError):
        # uvloop and asyncio abort the connection when the time limit is reached.
        said = "" if octets or not handshake.seen else "; the client sent nothing"
        return f"the handshake took longer than {patience:g} seconds{said}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return _in_words(error.reason)
    if error is None or isinstance(error, ConnectionError | ssl.SSLEOFError):
        said = "; it may not trust the certificate" if client_hello.parse(octets) is not None else ""
        return f"the client closed the connection during the handshake{said}"
    return str(error) or type(error).__name__
