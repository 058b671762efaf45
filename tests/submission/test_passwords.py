import hashlib

import pytest

from relay.submission.passwords import (
    MOST_OCTETS,
    Credential,
    PasswordError,
    generate_secret,
    is_password,
    is_secret,
    prepare,
    seal_password,
    seal_secret,
)


@pytest.fixture(scope="module")
def chosen():
    return seal_password("correct horse")


def test_secrets_are_random_and_long_enough():
    secrets = {generate_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(secret) for secret in secrets} == {32}
    assert set("".join(secrets)) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_a_secret_is_stored_as_its_hash_and_recognised():
    secret = generate_secret()
    credential = seal_secret(secret)
    assert credential == Credential("sha256", hashlib.sha256(secret.encode()).hexdigest())
    assert is_secret(credential, secret)
    assert not is_secret(credential, secret.upper())
    assert not is_secret(credential, generate_secret())
    assert not is_secret(None, secret)


def test_a_chosen_password_is_recognised(chosen):
    assert chosen.scheme == "argon2id"
    assert is_password(chosen, "correct horse")
    assert not is_password(chosen, "correct horse ")
    assert seal_password("correct horse") != chosen


def test_the_decoy_recognises_nothing():
    secret = generate_secret()
    assert not is_password(None, "")
    assert not is_password(None, "correct horse")
    assert not is_password(seal_secret(secret), secret)


def test_the_hash_of_a_secret_is_no_password(chosen):
    credential = seal_secret(generate_secret())
    assert not is_secret(credential, credential.value)
    assert not is_secret(chosen, chosen.value)
    assert not is_secret(None, "0" * 64)


@pytest.mark.parametrize("text", ["", "short", "1234567", "\u00e9" * 7, "e\u0301" * 7])
def test_a_short_password_is_refused(text):
    with pytest.raises(PasswordError):
        seal_password(text)


@pytest.mark.parametrize(
    "text", ["", "a\0b", "a\rb", "a\nb", "\x7f", "\x85", "\udcff", "x" * (MOST_OCTETS + 1), "\u00e9" * MOST_OCTETS]
)
def test_what_cannot_be_a_password_is_refused(text):
    with pytest.raises(PasswordError):
        prepare(text)


def test_passwords_are_compared_in_their_composed_form():
    assert prepare("cafe\u0301\u00a0noir") == "caf\u00e9 noir"
    assert prepare("x" * MOST_OCTETS) == "x" * MOST_OCTETS
    credential = seal_password("cafe\u0301\u3000noir")
    assert is_password(credential, prepare("caf\u00e9 noir"))


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("sha256", ""),
        ("sha256", "x" * 64),
        ("sha256", "0" * 63),
        ("argon2id", ""),
        ("argon2id", "$argon2i$v=19$m=19456,t=2,p=1$AAAA$AAAA"),
        ("argon2id", "$argon2id$v=19$m=9999999,t=2,p=1$AAAA$AAAA"),
    ],
)
def test_a_damaged_credential_is_refused(scheme, value):
    with pytest.raises(ValueError, match="not "):
        Credential(scheme, value)


def test_the_decoy_has_the_parameters_of_real_hashes(chosen):
    from relay.submission.passwords import _DECOY_HASH

    assert _DECOY_HASH.split("$")[:4] == chosen.value.split("$")[:4]
    assert [len(part) for part in _DECOY_HASH.split("$")] == [len(part) for part in chosen.value.split("$")]
