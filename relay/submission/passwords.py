"""Credentials of users: made, stored and compared. Pure; knows neither files nor threads.

Two kinds. A *secret* is made by us: 160 random bits, so a plain SHA-256 of it cannot be guessed, and is checked
in microseconds. A *password* is chosen by a person, and so is kept as argon2id, which takes tens of milliseconds.

No answer may tell whether a user exists. So every refusal costs one argon2 verification: of the user's own hash, or of
a decoy where there is no user or the user has a secret (`is_password` is that step). A right secret is accepted without
it; that tells only the one who knew it.
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
"""Characters of a chosen password (NIST SP 800-63B §5.1.1.1)."""
MOST_OCTETS: Final = 1024
"""Octets of any password in UTF-8; more than any person or program uses, little enough to hash at will."""
_SECRET_OCTETS: Final = 20

# argon2id with 19 MiB, two passes, one lane: OWASP's first choice where many log in at once. Changing these makes old
# hashes take another time than the decoy: then say in the changelog that passwords should be set anew.
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
"""A hash that no password has (its digest is all zeros), with the parameters of real ones."""


class PasswordError(ValueError):
    """The text cannot be a password; the message says why."""


class VerificationImpossibleError(Exception):
    """The machine could not compute the hash (no memory): says nothing about the password."""


class Credential(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is stored to recognise a user; never what the user knows."""

    scheme: Literal["sha256", "argon2id"]
    value: str
    """`sha256`: 64 hexadecimal digits of a generated secret's SHA-256. `argon2id`: the PHC string."""

    def __post_init__(self) -> None:
        """Refuse what could not be verified later."""
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
    """The stored form of a secret made by `generate_secret` (for nothing less random)."""
    return Credential("sha256", hashlib.sha256(secret.encode()).hexdigest())


def seal_password(password: str) -> Credential:
    """The stored form of a chosen password; raises `PasswordError`. Takes tens of milliseconds."""
    # Imported where used: the library takes a while, and most commands need no passwords.
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

    Any kind of blank becomes a space and composed letters take their composed form (NFC); control characters, NUL among
    them, and lone surrogates are refused. Left out is the table of unassigned code points, which differs by Unicode
    version and would lock users out after an upgrade.
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
    """Whether the text is the user's generated secret. Takes microseconds, and the same time for any credential."""
    known = credential.value if credential is not None and credential.scheme == "sha256" else _DECOY_SECRET
    offered = hashlib.sha256(prepared.encode()).hexdigest()
    return hmac.compare_digest(known, offered) and known is not _DECOY_SECRET


def is_password(credential: Credential | None, prepared: str) -> bool:
    """Whether the text is the user's chosen password. Takes tens of milliseconds, and the same time for any credential.

    Blocks without holding the interpreter's lock: call it in a thread. Raises `VerificationImpossibleError`.
    """
    from argon2.exceptions import VerificationError, VerifyMismatchError
    from argon2.low_level import Type, verify_secret

    chosen = credential if credential is not None and credential.scheme == "argon2id" else None
    known = _DECOY_HASH if chosen is None else chosen.value
    try:
        # The library answers a wrong password with an exception, and anything else it returns is a right one.
        verify_secret(known.encode("ascii"), prepared.encode(), Type.ID)
    except VerifyMismatchError:
        return False
    except VerificationError as error:
        raise VerificationImpossibleError(str(error)) from error
    return chosen is not None
