"""Signing keys: loading, generation, and the DNS record that publishes them (RFC 6376 §3.6.1, RFC 8463 §4).

All cryptography is done by OpenSSL, through `cryptography`. Callers read and write the files. No error text may contain
a private key.
"""

import base64
import re
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from relay_config.private_keys import PRIVATE_KEYS, RSA_LEAST, KeyRefusedError, PrivateKey

Algorithm = Literal["rsa", "ed25519"]

RSA_BITS_MIN = RSA_LEAST
_STRING_MAX = 255
_SELECTOR = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_SELECTOR_MAX = 63 * 3
_PADDING = padding.PKCS1v15()
_PREHASHED = utils.Prehashed(hashes.SHA256())


class KeyFormatError(ValueError):
    """A key or selector is unusable; the text is a sentence that says what to do."""


@dataclass(slots=True, frozen=True)
class SigningKey:
    """A private key, and the DNS location of its public key."""

    domain: str
    """Lower-case A-labels: the signature's d=."""
    selector: str
    private: PrivateKey
    expire_after: float | None = None
    """Validity of its signatures in seconds (x=); None means no limit."""

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""
        return "rsa" if isinstance(self.private, rsa.RSAPrivateKey) else "ed25519"

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest: about 0.5 ms with RSA (the GIL is released), 0.05 ms with Ed25519."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(digest, _PADDING, _PREHASHED)
        # RFC 8463 §3: the Ed25519 message is the SHA-256 hash.
        return self.private.sign(digest)


def load(pem: bytes, domain: str, selector: str, expire_after: float | None = None) -> SigningKey:
    """Parse a signing key from an unencrypted PEM file's content; results are cached. Raises `KeyFormatError`."""
    check_selector(selector)
    try:
        private = PRIVATE_KEYS.load(pem)
    except KeyRefusedError as error:
        raise KeyFormatError(str(error)) from None
    return SigningKey(domain.lower(), selector, private, expire_after)


def generate(algorithm: Algorithm, bits: int = RSA_BITS_MIN) -> bytes:
    """Generate a private key as PEM (PKCS #8, not encrypted). RSA takes a fraction of a second."""
    private: PrivateKey
    if algorithm == "rsa":
        if bits < RSA_BITS_MIN:
            raise KeyFormatError(f"RSA keys need {RSA_BITS_MIN} bits or more")
        private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    else:
        private = Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def check_selector(selector: str) -> None:
    """Raise `KeyFormatError` unless `selector` may stand before `._domainkey` (RFC 6376 §3.1)."""
    if len(selector) > _SELECTOR_MAX or not _SELECTOR.fullmatch(selector):
        raise KeyFormatError("a selector is letters, digits and hyphens, in parts joined by dots, e.g. `mail2026`")


def record_name(key: SigningKey) -> str:
    """Return the DNS name of the record, without the final dot."""
    return f"{key.selector}._domainkey.{key.domain}"


def record(key: SigningKey) -> str:
    """Return the record's text."""
    public = key.private.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    else:
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"v=DKIM1; k={key.algorithm}; p={base64.b64encode(octets).decode('ascii')}"


def record_strings(key: SigningKey) -> list[str]:
    """Return the record as the strings of at most 255 octets of which a TXT record consists."""
    text = record(key)
    return [text[start : start + _STRING_MAX] for start in range(0, len(text), _STRING_MAX)]


def zone_line(key: SigningKey) -> str:
    """Return the record as a line of a zone file."""
    strings = " ".join(f'"{part}"' for part in record_strings(key))
    return f"{record_name(key)}. IN TXT ( {strings} )"
