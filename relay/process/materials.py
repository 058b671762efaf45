"""What needs files that may be readable by root alone: loaded before privileges are dropped, handed to the workers."""

import ssl
from pathlib import Path

from relay.message.dkim.keys import KeyFormatError, load
from relay.message.dkim.sign import KeyRing
from relay_config.schema import Settings


class MaterialError(Exception):
    """A certificate or key can't be loaded; the text says which and why."""


class Materials:
    """The certificate and the signing keys of a process."""

    def __init__(self, settings: Settings) -> None:
        self.keys = load_keys(settings)
        self.tls: ssl.SSLContext | None = None
        """For the listeners. A reload puts the new pair into this same context, so that running sessions go on."""
        self._load_tls(settings)

    def reload(self, settings: Settings) -> None:
        """Load everything anew; MaterialError leaves all as it was."""
        keys = load_keys(settings)
        self._load_tls(settings)
        self.keys = keys

    def _load_tls(self, settings: Settings) -> None:
        certificate, key = settings.tls.certificate, settings.tls.key
        if certificate is None or key is None:
            return
        # Tried on a context of its own first: a half-written pair must not replace a good one.
        fresh = _server_context()
        try:
            fresh.load_cert_chain(certificate, key)
        except OSError as error:  # ssl.SSLError is one
            raise MaterialError(f"tls: {certificate} and {key} cannot be loaded: {error}") from error
        try:
            if self.tls is not None:
                self.tls.load_cert_chain(certificate, key)
                return
        except OSError:
            # The files were replaced between the two reads: the old context may hold a half of either pair.
            pass
        self.tls = fresh


def load_keys(settings: Settings) -> KeyRing:
    """All DKIM keys of the settings."""
    keys = {}
    for domain, of_domain in settings.dkim.items():
        loaded = []
        for key in of_domain:
            try:
                pem = Path(key.key).read_bytes()
                loaded.append(load(pem, domain, key.selector, key.expire_after))
            except OSError as error:
                raise MaterialError(f"dkim: {key.key} cannot be read: {error.strerror}") from error
            except KeyFormatError as error:
                raise MaterialError(f"dkim: {key.key}: {error}") from error
        keys[domain] = loaded
    return KeyRing(keys)


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    return context
