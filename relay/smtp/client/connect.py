"""Opens a `Connection` that is ready for mail: TCP, greeting, EHLO or HELO, STARTTLS, AUTH.

aiosmtplib runs this dialog; afterwards our own protocol takes over the transport. This is the only module that uses
aiosmtplib and its private `_buffer` (`tests/smtp_client/test_aiosmtplib.py` fails if that changes), and the only one
that maps errors of aiosmtplib, sockets and TLS to `SessionError`.
"""

import asyncio
import base64
import errno
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass, replace
from typing import NoReturn, cast

import aiosmtplib

from relay.smtp.client.connection import Connection
from relay.smtp.client.features import Features
from relay.smtp.client.model import Credentials, SessionError, Stage, Target, Timeouts, TlsPolicy
from relay.smtp.client.replies import make_reply
from relay.smtp.client.tls import ClientTls
from relay.smtp.reply import Reply

__all__ = ["ClientTls", "Timeouts", "connect"]

_STARTTLS = frozenset({TlsPolicy.OPPORTUNISTIC, TlsPolicy.REQUIRED, TlsPolicy.VERIFY})
_VERIFIED = frozenset({TlsPolicy.VERIFY, TlsPolicy.IMPLICIT})
# Codes of a peer that offers an AUTH mechanism but does not support it. Any other code refuses the credentials.
_NO_SUCH_MECHANISM = frozenset({500, 501, 502, 504, 534})
# Errors that another address of the peer cannot avoid. Not EADDRNOTAVAIL: the other family may have an address.
_OWN_FAULTS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(slots=True, frozen=True)
class _Manner:
    """How to open the session. Each field is turned off at most once, so there are at most four connections."""

    esmtp: bool = True
    """Start with EHLO, otherwise with HELO."""
    starttls: bool = True
    """Use STARTTLS if it is offered."""


class _AgainError(Exception):
    """The connection is lost, but a new one with `manner` may work."""

    def __init__(self, manner: _Manner) -> None:
        super().__init__()
        self.manner = manner


async def connect(
    target: Target,
    policy: TlsPolicy,
    *,
    hostname: str,
    tls: ClientTls,
    credentials: Credentials | None,
    source: str | None,
    timeouts: Timeouts,
) -> Connection:
    """Connect to one address and prepare the session for mail. Raises `SessionError`.

    `hostname` is our name for EHLO, `source` the local address to bind (None: any). With OPPORTUNISTIC, a failed
    handshake is followed by a connection in plaintext (RFC 7435); with the other policies it is an error.
    """
    manner = _Manner(starttls=policy in _STARTTLS)
    while True:
        dialer = _Dialer(target, policy, hostname, tls, credentials, source, timeouts, manner)
        try:
            return await dialer.dial()
        except _AgainError as again:
            manner = again.manner


class _Client(aiosmtplib.SMTP):
    """Closes at once: the closing handshake of TLS would wait 30 s for a peer that does not answer."""

    def close(self) -> None:
        transport = self.transport
        super().close()
        if transport is not None:
            cast("asyncio.Transport", transport).abort()


@dataclass(slots=True, eq=False)
class _Dialer:
    """Opens one connection and prepares it for mail."""

    target: Target
    policy: TlsPolicy
    hostname: str
    tls: ClientTls
    credentials: Credentials | None
    source: str | None
    timeouts: Timeouts
    manner: _Manner
    stage: Stage = Stage.CONNECT
    secure: bool = False

    @property
    def remote(self) -> str:
        """The peer as `host[address]:port`."""
        return f"{self.target.host}[{self.target.address}]:{self.target.port}"

    async def dial(self) -> Connection:
        """Run all steps in order. On failure closes the socket and raises `SessionError` or `_AgainError`."""
        smtp: _Client | None = None
        try:
            smtp = self._client(await self._open_socket())
            await self._greet(smtp)
            await self._hello(smtp)
            await self._secure(smtp)
            await self._authenticate(smtp)
            return self._take_over(smtp)
        except BaseException as error:
            if smtp is not None:
                smtp.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError, ValueError, TimeoutError)):
                self._fail(error)
            raise

    # -- steps --------------------------------------------------------------------------------------------------------

    async def _open_socket(self) -> socket.socket:
        """Open a TCP connection. aiosmtplib cannot do it: it takes no address that differs from the name to verify."""
        family = socket.AF_INET6 if ":" in self.target.address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if self.source is not None:
                sock.bind((self.source, 0))
            async with asyncio.timeout(self.timeouts.connect):
                await asyncio.get_running_loop().sock_connect(sock, (self.target.address, self.target.port))
        except BaseException:
            sock.close()
            raise
        return sock

    def _client(self, sock: socket.socket) -> "_Client":
        implicit = self.policy is TlsPolicy.IMPLICIT
        return _Client(
            hostname=self.target.host.rstrip("."),
            sock=sock,
            local_hostname=self.hostname,
            timeout=self.timeouts.command,
            use_tls=implicit,
            start_tls=False,
            tls_context=self._context(),
        )

    def _context(self) -> ssl.SSLContext | None:
        """Return a context unless TLS is off; otherwise aiosmtplib would build one, which takes 50 ms each time."""
        if self.policy in _VERIFIED:
            return self.tls.verifying
        return None if self.policy is TlsPolicy.NONE else self.tls.unverified

    async def _greet(self, smtp: _Client) -> None:
        self.stage = Stage.GREETING
        await smtp.connect()
        self.secure = self.policy is TlsPolicy.IMPLICIT
        self._check(smtp)

    async def _hello(self, smtp: _Client) -> None:
        """Send EHLO, or HELO if the peer does not support EHLO or closes the connection on it (RFC 5321 §3.2)."""
        self.stage = Stage.EHLO
        if self.manner.esmtp:
            try:
                await smtp.ehlo()
            except aiosmtplib.SMTPHeloError as error:
                if not 500 <= error.code < 600 or not smtp.is_connected:
                    raise
            except aiosmtplib.SMTPServerDisconnected:
                if self.secure or self.policy not in (TlsPolicy.NONE, TlsPolicy.OPPORTUNISTIC):
                    raise
                raise _AgainError(replace(self.manner, esmtp=False)) from None
            else:
                self._check(smtp)
                return
        await smtp.helo()
        self._check(smtp)

    async def _secure(self, smtp: _Client) -> None:
        """Run STARTTLS as the policy requires (RFC 3207)."""
        if not self.manner.starttls:
            return
        optional = self.policy is TlsPolicy.OPPORTUNISTIC
        self.stage = Stage.STARTTLS
        if not smtp.supports_extension("starttls"):
            if optional:
                return
            raise self._error("tls", "the server does not offer STARTTLS, which this route requires")
        try:
            await smtp.starttls(timeout=self.timeouts.handshake)
        except aiosmtplib.SMTPResponseException as error:
            if not optional:
                reply = self._reply(error.code, error.message)
                raise self._error("tls", f"STARTTLS was refused: {reply}", reply) from error
            if error.code == 421 or not 200 <= error.code < 600 or not smtp.is_connected:
                raise _AgainError(replace(self.manner, starttls=False)) from error
            self._check(smtp)
            return
        except (aiosmtplib.SMTPException, OSError, ValueError, TimeoutError) as error:
            if optional:
                raise _AgainError(replace(self.manner, starttls=False)) from error
            raise self._error("tls", f"TLS handshake failed: {_describe(error)}") from error
        self.secure = True
        await self._hello(smtp)

    async def _authenticate(self, smtp: _Client) -> None:
        """Authenticate with the best mechanism offered. Without TLS only to a loopback address."""
        if self.credentials is None:
            return
        self.stage = Stage.AUTH
        if not self.secure and not ipaddress.ip_address(self.target.address).is_loopback:
            raise self._error("tls", "the password is not sent without TLS; set `tls` of this route to `required`")
        methods = [("PLAIN", smtp.auth_plain), ("LOGIN", smtp.auth_login), ("CRAM-MD5", smtp.auth_crammd5)]
        if not self.secure:
            methods.insert(0, methods.pop())
        offered = Features.parse(smtp.esmtp_extensions).auth
        last: aiosmtplib.SMTPAuthenticationError | None = None
        for name, method in methods:
            if name not in offered:
                continue
            try:
                await method(self.credentials.user, self.credentials.password)
            except aiosmtplib.SMTPAuthenticationError as error:
                if error.code not in _NO_SUCH_MECHANISM:
                    raise
                last = error
            else:
                self._check(smtp)
                return
        if last is not None:
            raise last
        raise self._error("protocol", "the server offers no AUTH mechanism that we know (PLAIN, LOGIN, CRAM-MD5)")

    def _take_over(self, smtp: _Client) -> Connection:
        """Replace the protocol of aiosmtplib by a `Connection`."""
        self._check(smtp)
        transport = cast("asyncio.Transport", smtp.transport)
        features = Features.parse(smtp.esmtp_extensions)
        connection = Connection(
            transport, features, remote=self.remote, tls=_tls_name(transport), timeouts=self.timeouts
        )
        transport.set_protocol(connection)
        return connection

    # -- errors -------------------------------------------------------------------------------------------------------

    def _check(self, smtp: _Client) -> None:
        """Check that the peer is connected and sent no unsolicited data, which would be read as the next reply."""
        protocol = smtp.protocol
        if protocol is None or not protocol.is_connected:
            raise self._error("closed", "peer closed the connection")
        if protocol._buffer:  # noqa: SLF001 - there is no public way to see it
            raise self._error("protocol", "a reply came before its command")

    def _reply(self, code: int, message: str) -> Reply:
        """Convert code and message of aiosmtplib to a `Reply`, with credentials that the peer echoes removed."""
        text = message
        if self.stage is Stage.AUTH and self.credentials is not None:
            for secret in _secrets(self.credentials):
                text = text.replace(secret, "[removed]")
        return make_reply(code, text.encode("utf-8", "surrogateescape"))

    def _error(self, kind: str, text: str, reply: Reply | None = None) -> SessionError:
        return SessionError(self.stage, kind, " ".join(text.split("\n")).rstrip(), reply, self.remote)

    def _fail(self, error: BaseException) -> NoReturn:
        """Raise the `SessionError` for an error of aiosmtplib, a socket or TLS."""
        if isinstance(error, aiosmtplib.SMTPResponseException):
            if 200 <= error.code <= 599:
                reply = self._reply(error.code, error.message)
                kind = "reply" if reply.code >= 400 else "protocol"
                raise self._error(kind, str(reply), reply if kind == "reply" else None) from error
            raise self._error("protocol", str(self._reply(500, error.message).text)) from error
        cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPException) and error.__cause__ else error
        raise self._error(_kind(cause, self.stage), _describe(cause)) from error


def _kind(error: BaseException, stage: Stage) -> str:
    """Return the `SessionError.kind` of a foreign error."""
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, (TimeoutError, aiosmtplib.SMTPTimeoutError)):
        return "timeout"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError):
        return "closed" if stage is not Stage.CONNECT else "unreachable"
    if isinstance(error, OSError) and error.errno not in _OWN_FAULTS:
        return "unreachable" if stage in (Stage.CONNECT, Stage.GREETING) else "closed"
    return "protocol" if isinstance(error, aiosmtplib.SMTPException) else "local"


def _describe(error: BaseException) -> str:
    """Return one printable line that describes a foreign error."""
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"certificate not valid: {error.verify_message}"
    elif isinstance(error, ssl.SSLError):
        text = (error.reason or str(error)).replace("_", " ").lower()
    elif isinstance(error, aiosmtplib.SMTPServerDisconnected):
        text = "peer closed the connection"
    elif isinstance(error, OSError) and error.errno:
        # Not `error.strerror`, where asyncio puts its own text ("Connect call failed …").
        text = os.strerror(error.errno).lower()
    elif isinstance(error, TimeoutError) and not isinstance(error, aiosmtplib.SMTPException):
        text = "timed out"
    else:
        text = str(error) or type(error).__name__
    return make_reply(400, text.replace("\n", " ").encode("utf-8", "replace")).text


def _secrets(credentials: Credentials) -> list[str]:
    """Return the forms of the credentials that a peer may echo, longest first."""
    user, password = credentials.user, credentials.password
    forms = (f"\0{user}\0{password}", password)
    encoded = [base64.b64encode(form.encode()).decode() for form in forms]
    return sorted((form for form in (*encoded, password) if form), key=len, reverse=True)


def _tls_name(transport: asyncio.Transport) -> str | None:
    """Return version and cipher, e.g. `TLSv1.3 TLS_AES_256_GCM_SHA384`; None in plaintext."""
    cipher = transport.get_extra_info("cipher")
    return f"{cipher[1]} {cipher[0]}" if cipher else None
