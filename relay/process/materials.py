"""Certificate and keys, whose files only root may be able to read: loaded before privileges are dropped.

The workers inherit them. Loading (`prepare`) and using (`commit`) are two steps: a running worker loads in a thread, so
that hundreds of keys do not block its event loop, and switches to the new objects on the loop.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path

from relay.message.dkim.keys import KeyFormatError, SigningKey, load
from relay.message.dkim.sign import KeyRing
from relay.process.privileges import on_behalf_of, unprivileged
from relay.smtp.server.handshake import ObservingContext
from relay_config.private_keys import PRIVATE_KEYS
from relay_config.schema import Settings


class MaterialError(Exception):
    """A certificate or key cannot be loaded; the text says which and why."""


@dataclass(slots=True, frozen=True)
class Loaded:
    """Materials that were loaded and are not in use yet."""

    signing: tuple[SigningKey, ...]
    keys: KeyRing
    tls: ssl.SSLContext | None
    settings: Settings
    """The settings that name the files."""


class Materials:
    """The certificate and the signing keys of a process."""

    def __init__(self, settings: Settings) -> None:
        self.keys = KeyRing({})
        self.tls: ssl.SSLContext | None = None
        """TLS context of the listeners. A reload loads the new pair into this object, so running sessions continue."""
        self.commit(self.prepare(settings))

    @staticmethod
    def prepare(settings: Settings) -> Loaded:
        """Load everything again. Changes nothing, so it may run in a thread. Raises `MaterialError`."""
        signing = load_keys(settings)
        by_domain: dict[str, list[SigningKey]] = {}
        for key in signing:
            by_domain.setdefault(key.domain, []).append(key)
        return Loaded(signing, KeyRing(by_domain), _load_tls(settings), settings)

    def commit(self, loaded: Loaded) -> None:
        """Use the loaded materials. Call it on the event loop, so that no session starts during the change."""
        self.keys = loaded.keys
        PRIVATE_KEYS.keep(key.private for key in loaded.signing)
        certificate, key = loaded.settings.tls.certificate, loaded.settings.tls.key
        try:
            if self.tls is not None and loaded.tls is not None and certificate is not None and key is not None:
                with on_behalf_of(unprivileged(loaded.settings.user), Path(certificate), Path(key)):
                    self.tls.load_cert_chain(certificate, key)
                return
        except OSError:
            # The files were replaced between the two reads, so the old context may mix the old and the new pair.
            pass
        self.tls = loaded.tls

    def reload(self, settings: Settings) -> None:
        """Load everything again and use it. Raises `MaterialError`; then nothing has changed."""
        self.commit(self.prepare(settings))


def load_keys(settings: Settings) -> tuple[SigningKey, ...]:
    """Load all DKIM keys of the settings. Raises `MaterialError`."""
    keys = []
    identity = unprivileged(settings.user)
    for domain, of_domain in settings.dkim.items():
        for key in of_domain:
            try:
                # The relay's user may have put a link there that leads to somebody else's key.
                with on_behalf_of(identity, Path(key.key)):
                    pem = Path(key.key).read_bytes()
                keys.append(load(pem, domain, key.selector, key.expire_after))
            except OSError as error:
                raise MaterialError(f"dkim: {key.key} cannot be read: {error.strerror}") from error
            except KeyFormatError as error:
                raise MaterialError(f"dkim: {key.key}: {error}") from error
    return tuple(keys)


def _load_tls(settings: Settings) -> ssl.SSLContext | None:
    """Load the pair into a new context, so that a half-written pair does not replace a good one."""
    tls = settings.tls
    if tls.certificate is None or tls.key is None:
        return None
    context = _server_context()
    try:
        with on_behalf_of(unprivileged(settings.user), Path(tls.certificate), Path(tls.key)):
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:  # ssl.SSLError is one
        raise MaterialError(f"tls: {tls.certificate} and {tls.key} cannot be loaded: {error}") from error
    return context


def _server_context() -> ssl.SSLContext:
    context = ObservingContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    return context
