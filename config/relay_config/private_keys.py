"""Private keys for DKIM, read from PEM and tested once for each file content.

The settings check and the signer both get their keys here, and a key file that did not change is neither parsed nor
tested again at a reload. A change is detected from the file's bytes, not from its times: reading 2 kB costs nothing,
and a replacement within the clock's resolution is noticed too.

Why `unsafe_skip_rsa_key_validation`: OpenSSL's own validation of an RSA key repeats the search for factors of both its
primes, which takes 40 ms (2048 bits) to 300 ms (4096 bits) during which no other thread of the process runs. It is
meant for keys from untrusted sources. Here a key is the admin's own file, and the possible faults are damage and a mix
of parts of two keys. `_is_sound` finds these in less than a millisecond.
"""

import hashlib
import os
from collections.abc import Iterable
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

PrivateKey: TypeAlias = RSAPrivateKey | Ed25519PrivateKey

RSA_LEAST: Final = 2048
"""Bits. RFC 8301 §3.2 requires signers to use at least 1024 and recommends 2048."""
_EXPONENT_MOST: Final = 2**64
"""Larger public exponents are not used in practice, and make each verification slow."""
MAKE_ONE: Final = "make one with `relay dkim generate`"


class KeyRefusedError(ValueError):
    """The file content is not a key that DKIM can use. `remedy` says what to do; the content is never shown."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"the file holds {what}; {remedy}")
        self.what = what
        """What the file holds: `an encrypted key`, `an RSA key of 1024 bits`."""
        self.remedy = remedy


class PrivateKeys:
    """The keys of this process by the SHA-256 of their PEM."""

    def __init__(self) -> None:
        self._known: dict[bytes, PrivateKey] = {}

    def load(self, pem: bytes) -> PrivateKey:
        """The key in the bytes `pem`; taken from memory if they were loaded before. Raises `KeyRefusedError`."""
        digest = hashlib.sha256(pem).digest()
        key = self._known.get(digest)
        if key is None:
            key = self._known[digest] = _parse(pem)
        return key

    def keep(self, used: Iterable[PrivateKey]) -> None:
        """Forget all other keys, so that a key removed from the settings does not stay in memory."""
        wanted = {id(key) for key in used}
        self._known = {digest: key for digest, key in self._known.items() if id(key) in wanted}


PRIVATE_KEYS: Final = PrivateKeys()
"""One instance for the process: forked children start with the keys that their parent has loaded."""


def _parse(pem: bytes) -> PrivateKey:
    try:
        key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise KeyRefusedError("an encrypted key", "store the key without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyRefusedError("no private key in PEM form", MAKE_ONE) from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < RSA_LEAST:
            raise KeyRefusedError(f"an RSA key of {key.key_size} bits", f"use {RSA_LEAST} bits; {MAKE_ONE}")
        if not _is_sound(key):
            raise KeyRefusedError("a damaged RSA key, whose parts do not belong together", MAKE_ONE)
        return key
    if isinstance(key, Ed25519PrivateKey):
        return key
    raise KeyRefusedError("a key DKIM has no use for", f"use RSA or Ed25519; {MAKE_ONE}")


def _is_sound(key: RSAPrivateKey) -> bool:
    """Whether all parts of an RSA key fit each other (RFC 8017 §3.2), and its signatures can be verified.

    Only a composite number that was deliberately built to satisfy each of these equations like a prime would pass here
    and fail OpenSSL's validation.
    """
    parts = key.private_numbers()
    public, p, q, d = parts.public_numbers, parts.p, parts.q, parts.d
    # Check for odd numbers and a bounded exponent first: otherwise the arithmetic below and OpenSSL's may fail or take
    # long.
    if not (p > 2 and q > 2 and p & q & 1 and public.e & 1 and 2 < public.e < _EXPONENT_MOST):
        return False
    fit = (
        p != q
        and p * q == public.n
        and d * public.e % (p - 1) == 1
        and d * public.e % (q - 1) == 1
        and parts.dmp1 == d % (p - 1)
        and parts.dmq1 == d % (q - 1)
        and parts.iqmp * q % p == 1
    )
    if not fit:
        return False
    digest, prehashed = os.urandom(32), utils.Prehashed(hashes.SHA256())
    try:
        key.public_key().verify(key.sign(digest, padding.PKCS1v15(), prehashed), digest, padding.PKCS1v15(), prehashed)
    except (InvalidSignature, ValueError):
        return False
    return True
