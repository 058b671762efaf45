"""Certificates for tests: one throw-away authority per test process, and server and client contexts made from it.

Keys are ECDSA (trustme's default), so a handshake costs well under a millisecond.
"""

import datetime as dt
import functools
import ssl
from pathlib import Path

import trustme

from relay.smtp.server.handshake import ObservingContext


@functools.cache
def authority() -> trustme.CA:
    """The authority that the tests' verifying clients trust."""
    return trustme.CA()


@functools.cache
def _stranger() -> trustme.CA:
    """An authority that nobody trusts."""
    return trustme.CA()


@functools.cache
def server_context(*names: str) -> ssl.SSLContext:
    """A server's context with a valid certificate for `names` (default: mx.test, localhost and loopback)."""
    return _context(authority().issue_cert(*(names or ("mx.test", "localhost", "127.0.0.1", "::1"))))


@functools.cache
def expired_context(*names: str) -> ssl.SSLContext:
    """The same, but the certificate ran out years ago."""
    then = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    leaf = authority().issue_cert(
        *(names or ("mx.test", "localhost")), not_before=then, not_after=then + dt.timedelta(days=90)
    )
    return _context(leaf)


@functools.cache
def untrusted_context(*names: str) -> ssl.SSLContext:
    """The same, but from an authority nobody trusts (as self-signed ones are)."""
    return _context(_stranger().issue_cert(*(names or ("mx.test", "localhost"))))


@functools.cache
def client_context() -> ssl.SSLContext:
    """A client's context that verifies names and trusts `authority()` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def write_pem(folder: Path, *names: str) -> tuple[Path, Path, Path]:
    """Write (certificate chain, key, authority) as PEM files, for settings and foreign clients."""
    leaf = authority().issue_cert(*(names or ("mx.test", "localhost", "127.0.0.1", "::1")))
    certificate, key, root = folder / "cert.pem", folder / "key.pem", folder / "ca.pem"
    for part in leaf.cert_chain_pems:
        part.write_to_path(str(certificate), append=True)
    leaf.private_key_pem.write_to_path(str(key))
    authority().cert_pem.write_to_path(str(root))
    key.chmod(0o600)
    return certificate, key, root


def _context(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ObservingContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context
