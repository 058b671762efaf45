"""What needs files that may be readable by root alone: loaded before privileges are dropped, handed to the workers.

Loading (`prepare`) and using (`commit`) are two steps: a running worker loads in a thread, where hundreds of keys do
not hold up its event loop, and changes what it uses on the loop.
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
    """A certificate or key can't be loaded; the text says which and why."""


@dataclass(slots=True, frozen=True)
class Loaded:
    """What was loaded and is not in use yet."""

    signing: tuple[SigningKey, ...]
    keys: KeyRing
    tls: ssl.SSLContext | None
    settings: Settings
    """Where they came from."""


class Materials:
    """The certificate and the signing keys of a process."""

    def __init__(self, settings: Settings) -> None:
        self.keys = KeyRing({})
        self.tls: ssl.SSLContext | None = None
        """For the listeners. A reload puts the new pair into this same context, so that running sessions go on."""
        self.commit(self.prepare(settings))

    @staticmethod
    def prepare(settings: Settings) -> Loaded:
        """Load everything anew; `MaterialError` where something cannot be. Changes nothing: it may run in a thread."""
        signing = load_keys(settings)
        by_domain: dict[str, list[SigningKey]] = {}
        for key in signing:
            by_domain.setdefault(key.domain, []).append(key)
        return Loaded(signing, KeyRing(by_domain), _load_tls(settings), settings)

    def commit(self, loaded: Loaded) -> None:
        """Use what was loaded. On the event loop: no session may begin with a context that is being changed."""
        self.keys = loaded.keys
        PRIVATE_KEYS.keep(key.private for key in loaded.signing)
        certificate, key = loaded.settings.tls.certificate, loaded.settings.tls.key
        try:
            if self.tls is not None and loaded.tls is not None and certificate is not None and key is not None:
                with on_behalf_of(unprivileged(loaded.settings.user), Path(certificate), Path(key)):
                    self.tls.load_cert_chain(certificate, key)
                return
        except OSError:
            # The files were replaced between the two reads: the old context may hold a half of either pair.
            pass
        self.tls = loaded.tls

    def reload(self, settings: Settings) -> None:
        """Load everything anew and use it; `MaterialError` leaves all as it was."""
        self.commit(self.prepare(settings))


def load_keys(settings: Settings) -> tuple[SigningKey, ...]:
    """All DKIM keys of the settings."""
    keys = []
    identity = unprivileged(settings.user)
    for domain, of_domain in settings.dkim.items():
        for key in of_domain:
            try:
                # The relay's user may have put a link there, to a key of somebody else.
                with on_behalf_of(identity, Path(key.key)):
                    pem = Path(key.key).read_bytes()
                keys.append(load(pem, domain, key.selector, key.expire_after))
            except OSError as error:
                raise MaterialError(f"dkim: {key.key} cannot be read: {error.strerror}") from error
            except KeyFormatError as error:
                raise MaterialError(f"dkim: {key.key}: {error}") from error
    return tuple(keys)


def _load_tls(settings: Settings) -> ssl.SSLContext | None:
    """On a context of its own: a half-written pair must not replace a good one."""
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
