"""Signing keys are parsed and tested once; damaged ones are refused although OpenSSL's slow validation is left out."""

import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from relay_config import private_keys
from relay_config.private_keys import KeyRefusedError, PrivateKeys


def to_pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.fixture(name="key", scope="module")
def _key():
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(name="other", scope="module")
def _other():
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("exponent", [3, 65537])
def test_good_keys_are_loaded(form, exponent):
    key = rsa.generate_private_key(exponent, 2048)
    assert PrivateKeys().load(to_pem(key, form)).private_numbers() == key.private_numbers()


def test_ed25519_keys_are_loaded():
    key = ed25519.Ed25519PrivateKey.generate()
    assert PrivateKeys().load(to_pem(key)).private_bytes_raw() == key.private_bytes_raw()


@pytest.mark.parametrize("part", ["p", "q", "d", "dmp1", "dmq1", "iqmp", "n", "e"])
@pytest.mark.parametrize("change", [lambda n: n + 2, lambda n: n ^ (1 << 100), lambda _: 1, lambda n: n + 1])
def test_a_damaged_key_is_refused(key, part, change):
    numbers = key.private_numbers()
    parts = {name: getattr(numbers, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    public = {name: getattr(numbers.public_numbers, name) for name in ("n", "e")}
    of = parts if part in parts else public
    of[part] = change(of[part])
    refused(der(public["n"], public["e"], **parts))


def test_parts_of_two_keys_are_refused(key, other):
    one, two = key.private_numbers(), other.private_numbers()
    for name in ("p", "q", "d"):
        parts = {part: getattr(one, part) for part in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
        parts[name] = getattr(two, name)
        refused(der(one.public_numbers.n, one.public_numbers.e, **parts))


def test_a_composite_number_instead_of_a_prime_is_refused(key):
    """All equations hold that name the parts, but nothing that is signed can be verified."""
    numbers = key.private_numbers()
    p, q, e = numbers.p * 3, numbers.q, numbers.public_numbers.e
    d = pow(e, -1, (p - 1) * (q - 1))
    refused(der(p * q, e, p=p, q=q, d=d, dmp1=d % (p - 1), dmq1=d % (q - 1), iqmp=pow(q, -1, p)))


def refused(pem):
    with pytest.raises(KeyRefusedError, match=r"damaged RSA key|no private key|bits"):
        PrivateKeys().load(pem)


def der(n, e, *, p, q, d, dmp1, dmq1, iqmp):
    """PKCS #1 (RFC 8017 A.1.2) by hand: `cryptography` writes no key that is wrong."""
    import base64

    def tagged(tag, content):
        length = len(content)
        if length < 128:
            return bytes([tag, length]) + content
        size = length.to_bytes((length.bit_length() + 7) // 8)
        return bytes([tag, 0x80 | len(size)]) + size + content

    def integer(number):
        return tagged(2, number.to_bytes(number.bit_length() // 8 + 1))

    body = tagged(0x30, b"".join(map(integer, (0, n, e, d, p, q, dmp1, dmq1, iqmp))))
    return b"-----BEGIN RSA PRIVATE KEY-----\n" + base64.encodebytes(body) + b"-----END RSA PRIVATE KEY-----\n"


def test_the_keys_made_by_hand_are_like_the_others(key):
    numbers = key.private_numbers()
    parts = {name: getattr(numbers, name) for name in ("p", "q", "d", "dmp1", "dmq1", "iqmp")}
    pem = der(numbers.public_numbers.n, numbers.public_numbers.e, **parts)
    assert load_pem_private_key(pem, None).private_numbers() == numbers
    assert PrivateKeys().load(pem).private_numbers() == numbers


@pytest.mark.parametrize(
    ("pem", "told"),
    [
        (lambda: to_pem(rsa.generate_private_key(65537, 1024)), "an RSA key of 1024 bits; use 2048 bits"),
        (lambda: to_pem(ec.generate_private_key(ec.SECP256R1())), "a key DKIM has no use for; use RSA or Ed25519"),
        (
            lambda: to_pem(ed25519.Ed25519PrivateKey.generate(), encryption=BestAvailableEncryption(b"x")),
            "an encrypted key",
        ),
        (lambda: b"", "no private key in PEM form"),
        (lambda: b"SECRET", "no private key in PEM form"),
    ],
)
def test_what_is_no_use_is_refused_without_its_content(pem, told):
    with pytest.raises(KeyRefusedError, match=told) as caught:
        PrivateKeys().load(pem())
    assert "SECRET" not in str(caught.value)


def test_the_same_content_is_parsed_once_and_other_content_anew(key, other, monkeypatch):
    parsed = []
    real = private_keys.load_pem_private_key
    monkeypatch.setattr(private_keys, "load_pem_private_key", lambda *a, **k: parsed.append(1) or real(*a, **k))
    keys = PrivateKeys()
    first = keys.load(to_pem(key))
    assert keys.load(to_pem(key)) is first
    assert keys.load(to_pem(other)) is not first
    assert len(parsed) == 2
    keys.keep([first])
    assert keys.load(to_pem(key)) is first
    keys.load(to_pem(other))
    assert len(parsed) == 3, "what is used no more was forgotten"


def test_many_keys_take_no_time(key):
    """OpenSSL's own validation takes 40 ms a key, in which no other thread runs."""
    pem = to_pem(key)
    began = time.thread_time()
    for _ in range(50):
        PrivateKeys().load(pem)
    assert time.thread_time() - began < 50 * 0.02
