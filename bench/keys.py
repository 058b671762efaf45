"""The key, certificate and user that both servers get."""

import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.cli.certificate import self_signed


@dataclass(frozen=True, slots=True)
class Secrets:
    """Files and words, the same for both servers."""

    dkim_key: Path
    """RSA, 2048 bits, PEM."""
    certificate: Path
    key: Path
    """ECDSA P-256, as `relay init` makes it."""
    user: str
    password: str
    password_file: Path


def make_secrets(folder: Path) -> Secrets:
    """Write the files into the folder."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = Secrets(
        dkim_key=folder / "dkim.key",
        certificate=folder / "tls.crt",
        key=folder / "tls.key",
        user="app@example.com",
        password=secrets.token_urlsafe(24),
        password_file=folder / "password",
    )
    certificate, key = self_signed("localhost", time.time())
    form = PrivateFormat.TraditionalOpenSSL
    for path, octets in (
        (made.dkim_key, private.private_bytes(Encoding.PEM, form, NoEncryption())),
        (made.certificate, certificate),
        (made.key, key),
        (made.password_file, made.password.encode()),
    ):
        path.touch(mode=0o600)
        path.write_bytes(octets)
    return made
