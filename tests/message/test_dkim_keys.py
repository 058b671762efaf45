import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)

from relay.message.dkim.keys import (
    KeyFormatError,
    check_selector,
    generate,
    load,
    record,
    record_name,
    record_strings,
    zone_line,
)
from tests.support.dkim_keys import key, pem


def to_pem(private, encryption=None):
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_an_rsa_record():
    one = key(algorithm="rsa")
    text = record(one)
    assert text.startswith("v=DKIM1; k=rsa; p=")
    public = load_der_public_key(base64.b64decode(text.partition("p=")[2]))
    assert public == one.private.public_key()
    strings = record_strings(one)
    assert len(strings) == 2
    assert max(map(len, strings)) <= 255
    assert "".join(strings) == text
    assert zone_line(one).startswith('rsa._domainkey.example.org. IN TXT ( "v=DKIM1; k=rsa; p=')


def test_an_ed25519_record():
    text = record(key())
    assert text.startswith("v=DKIM1; k=ed25519; p=")
    assert len(base64.b64decode(text.partition("p=")[2])) == 32
    assert record_strings(key()) == [text]
    assert record_name(key("Example.ORG")) == "ed25519._domainkey.example.org"


def test_weak_and_foreign_keys_are_refused():
    with pytest.raises(KeyFormatError, match="an RSA key of 1024 bits; use 2048"):
        load(to_pem(rsa.generate_private_key(65537, 1024)), "x.test", "s")
    with pytest.raises(KeyFormatError, match="use RSA or Ed25519"):
        load(to_pem(ec.generate_private_key(ec.SECP256R1())), "x.test", "s")
    with pytest.raises(KeyFormatError, match="2048"):
        generate("rsa", 1024)


@pytest.mark.parametrize(
    "octets", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_refused_without_its_text(octets):
    with pytest.raises(KeyFormatError, match="no private key in PEM form") as caught:
        load(octets, "x.test", "s")
    assert "AAAA" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_encrypted_key_is_refused():
    private = load(pem("ed25519"), "x.test", "s").private
    with pytest.raises(KeyFormatError, match="an encrypted key; store"):
        load(to_pem(private, BestAvailableEncryption(b"secret")), "x.test", "s")


@pytest.mark.parametrize("selector", ["a", "mail2026", "s1.eu", "A-b", "x" * 63])
def test_good_selectors(selector):
    check_selector(selector)


@pytest.mark.parametrize(
    "selector", ["", ".", "a.", ".a", "a..b", "-a", "a-", "a b", "a;b", "ü", "a_b", "x" * 64, "a\n"]
)
def test_bad_selectors(selector):
    with pytest.raises(KeyFormatError, match="selector"):
        check_selector(selector)
