"""DKIM keys for tests, made once per process, and dkimpy as the verifier that judges what they signed."""

from functools import lru_cache

import dkim

from relay.message.dkim.keys import Algorithm, SigningKey, generate, load, record, record_name


@lru_cache(maxsize=8)
def pem(algorithm: Algorithm) -> bytes:
    """A private key, the same one each time."""
    return generate(algorithm)


def key(
    domain: str = "example.org", algorithm: Algorithm = "ed25519", selector: str = "", expire_after: float | None = None
) -> SigningKey:
    """A signing key; its selector is the algorithm's name unless given."""
    return load(pem(algorithm), domain, selector or algorithm, expire_after)


def results(message: bytes, *keys: SigningKey) -> list[bool]:
    """What dkimpy says of each signature of a message, with the DNS holding these keys' records."""
    records = {f"{record_name(one)}.".encode(): record(one).encode() for one in keys}

    def txt(name: bytes | str, timeout: float = 5) -> bytes | None:
        del timeout
        return records.get(name if isinstance(name, bytes) else name.encode())

    count = sum(line.lower().startswith(b"dkim-signature:") for line in message.split(b"\r\n"))
    return [_verifies(message, index, txt) for index in range(count)]


def _verifies(message: bytes, index: int, txt: object) -> bool:
    try:
        return bool(dkim.DKIM(message).verify(index, dnsfunc=txt))
    except dkim.ValidationError:  # its word for a body that was changed
        return False
