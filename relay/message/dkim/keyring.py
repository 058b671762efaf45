"""All signing keys of the settings, and whose signature a message gets.

`read` is the one place that opens key files; it is called before privileges are dropped and on reload.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from relay.message.dkim.keys import KeyFormatError, SigningKey, load
from relay.message.dkim.sign import DomainSigner
from relay_config.schema import Settings


class KeyRing:
    """All signers by domain."""

    __slots__ = ("_signers",)

    def __init__(self, keys: Mapping[str, Sequence[SigningKey]]) -> None:
        self._signers = {domain.lower(): DomainSigner(of_domain) for domain, of_domain in keys.items() if of_domain}

    def find(self, domain: str) -> DomainSigner | None:
        """The signer for an author's domain: its own, else its nearest parent's.

        A parent's signature is aligned in DMARC's relaxed mode (RFC 7489 §3.1.1), the default, so one key of
        example.org serves news.example.org too; a domain with strict alignment needs a key of its own.
        """
        signers = self._signers
        while domain:
            signer = signers.get(domain)
            if signer is not None:
                return signer
            domain = domain.partition(".")[2]
        return None


def read(settings: Settings) -> KeyRing:
    """The key ring of the settings. Raises `KeyFormatError` that names the first setting and file that is no use."""
    ring: dict[str, list[SigningKey]] = {}
    for domain, keys in settings.dkim.items():
        for one in keys:
            try:
                key = load(Path(one.key).read_bytes(), domain, one.selector, one.expire_after)
            except OSError as error:
                raise KeyFormatError(f'[dkim."{domain}"] key {one.key}: {error.strerror or error}') from error
            except KeyFormatError as error:
                raise KeyFormatError(f'[dkim."{domain}"] key {one.key}: {error}') from error
            ring.setdefault(domain.lower(), []).append(key)
    return KeyRing(ring)
