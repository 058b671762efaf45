"""Credentials of users: how they are created, stored and compared. Pure; uses neither files nor threads.

There are two kinds. A *secret* is generated here with 160 random bits, so its plain SHA-256 cannot be reversed by
guessing, and it is checked in microseconds. A *password* is chosen by a person and therefore stored as argon2id, which
takes tens of milliseconds.

No answer may disclose whether a user exists. Therefore every refusal takes one argon2 verification: of the user's own
hash, or of a decoy if there is no such user or the user has a secret (`is_password` is that step). A correct secret is
accepted without it, which discloses nothing to anyone who does not know the secret.
"""

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from typing import Final, Literal

import msgspec

LEAST_LENGTH: Final = 8
"""Minimum characters of a chosen password (NIST SP 800-63B §5.1.1.1)."""
MOST_OCTETS: Final = 1024
"""Maximum bytes of a password in UTF-8: more than people and programs use, but fast to hash."""
_SECRET_OCTETS: Final = 20

# argon2id with 19 MiB, two passes, one lane: OWASP's first choice for many simultaneous logins. If these values change,
# old hashes take a different time than the decoy; then the changelog must say that passwords should be set again.
_MEMORY_KIB: Final = 19_456
_PASSES: Final = 2
_LANES: Final = 1

_ARGON2: Final = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,7}),t=([0-9]{1,2}),p=([0-9]{1,2})\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+"
)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_MOST_MEMORY_KIB: Final = 1024 * 1024

_DECOY_SECRET: Final = "0" * 64
_DECOY_HASH: Final = "$argon2id$v=19$m=19456,t=2,p=1$cmVsYXkgZGVjb3kgc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""A hash that matches no password (its digest is all zeros), with the parameters of real hashes."""


class PasswordError(ValueError):
    """The text cannot be a password; the message says why."""


class VerificationImpossibleError(Exception):
    """The hash could not be computed, for example for lack of memory; the password may be right or wrong."""


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stored data that verifies a user's password or secret; never the password or secret itself."""

    scheme: Literal["sha256", "argon2id"]
    value: str
    """`sha256`: 64 hexadecimal digits of a generated secret's SHA-256. `argon2id`: the PHC string."""

    def __post_init__(self) -> None:
        """Raise ValueError for a value that could not be verified later."""
        if self.scheme == "sha256":
            if not _SHA256.fullmatch(self.value):
                raise ValueError("not 64 hexadecimal digits")
            return
        match = _ARGON2.fullmatch(self.value)
        if match is None or int(match[1]) > _MOST_MEMORY_KIB:
            raise ValueError("not an argon2id hash")


def generate_secret() -> str:
    """A new secret: 160 random bits as 32 letters and digits (RFC 4648 base32, lower case)."""
    return base64.b32encode(secrets.token_bytes(_SECRET_OCTETS)).decode("ascii").lower()


def seal_secret(secret: str) -> Credential:
    """The stored form of a secret from `generate_secret`. Do not use it for anything less random."""
    return Credential("sha256", hashlib.sha256(secret.encode()).hexdigest())


def seal_password(password: str) -> Credential:
    """The stored form of a chosen password. Raises `PasswordError`. Takes tens of milliseconds."""
    # Imported here because the library is slow to import and most commands do not need it.
    from argon2.low_level import Type, hash_secret

    prepared = prepare(password)
    if len(prepared) < LEAST_LENGTH:
        raise PasswordError(f"A password needs at least {LEAST_LENGTH} characters.")
    sealed = hash_secret(
        prepared.encode(), secrets.token_bytes(16), _PASSES, _MEMORY_KIB, _LANES, hash_len=32, type=Type.ID
    )
    return Credential("argon2id", sealed.decode("ascii"))


def prepare(password: str) -> str:
    """The form in which passwords are compared: OpaqueString of RFC 8265 §4.2, the successor of SASLprep (RFC 4013).

    All Unicode spaces become an ASCII space, and the text is normalised to NFC. Raises `PasswordError` for control
    characters, including NUL, and lone surrogates, and if the password is empty or too long. Unassigned code points are
    not refused, because their table differs by Unicode version and users would be locked out after an upgrade.
    """
    if password.isascii():
        prepared = password
    else:
        spaced = "".join(" " if unicodedata.category(char) == "Zs" else char for char in password[: MOST_OCTETS + 1])
        prepared = unicodedata.normalize("NFC", spaced)
    if not prepared:
        raise PasswordError("A password cannot be empty.")
    if any(unicodedata.category(char) in {"Cc", "Cs"} for char in prepared[: MOST_OCTETS + 1]):
        raise PasswordError("A password cannot hold control characters.")
    if len(prepared.encode()) > MOST_OCTETS:
        raise PasswordError(f"A password has at most {MOST_OCTETS} octets.")
    return prepared


def is_secret(credential: Credential | None, prepared: str) -> bool:
    """Whether the text is the user's generated secret. Takes microseconds, the same for any credential."""
    known = credential.value if credential is not None and credential.scheme == "sha256" else _DECOY_SECRET
    offered = hashlib.sha256(prepared.encode()).hexdigest()
    return hmac.compare_digest(known, offered) and known is not _DECOY_SECRET


def is_password(credential: Credential | None, prepared: str) -> bool:
    """Whether the text is the user's chosen password. Takes tens of milliseconds, the same for any credential.

    Blocks, but without holding the GIL, so call it in a thread. Raises `VerificationImpossibleError`.
    """
    from argon2.exceptions import VerificationError, VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    chosen = credential if credential is not None and credential.scheme == "argon2id" else None
    known = _DECOY_HASH if chosen is None else chosen.value
    try:
        # The library raises an exception for a wrong password; if it returns, the password is right.
        verify_secret(known.encode("ascii"), prepared.encode(), Type.ID)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise VerificationImpossibleError(str(error)) from error
    return chosen is not None
