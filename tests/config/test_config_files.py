"""The files and folders that settings name: DKIM keys, the certificate, the data folder; and the system user."""

import grp
import os
import pwd
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

from tests.support.checked import DKIM, LISTENER, write_key


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def write_certificate(folder, authority, *names, **more):
    leaf = authority.issue_cert(*names, **more)
    leaf.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    leaf.private_key_pem.write_to_path(folder / "tls.key")
    (folder / "tls.key").chmod(0o600)
    return '\n[tls]\ncertificate = "tls.crt"\nkey = "tls.key"\n'


@pytest.fixture(scope="module")
def rsa_key():
    return rsa.generate_private_key(65537, 2048)


def test_rsa_and_ed25519_keys_pass(warnings, tmp_path, rsa_key):
    write_key(tmp_path / "dkim.key", rsa_key)
    assert warnings(DKIM) == []
    write_key(tmp_path / "dkim.key", ed25519.Ed25519PrivateKey.generate())
    assert warnings(DKIM) == []


def test_a_bad_dkim_key_is_told(problems, tmp_path, rsa_key):
    path = tmp_path / "dkim.key"
    begin = 'dkim."example.com".key: found "dkim.key"'
    assert problems(DKIM) == [f"{begin}, which does not exist; create it or name another"]
    write_key(path, rsa.generate_private_key(65537, 1024))
    assert problems(DKIM) == [
        f"{begin}, which holds an RSA key of 1024 bits; use 2048 bits; make one with `relay dkim generate`"
    ]
    write_key(path, ec.generate_private_key(ec.SECP256R1()))
    assert problems(DKIM)[0].startswith(f"{begin}, which holds a key DKIM has no use for; use RSA or Ed25519")
    write_key(path, rsa_key, BestAvailableEncryption(b"x"))
    assert problems(DKIM) == [f"{begin}, which holds an encrypted key; store the key without a passphrase"]
    path.write_text("-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n")
    assert problems(DKIM) == [f"{begin}, which holds no private key in PEM form; make one with `relay dkim generate`"]
    path.unlink()
    path.mkdir()
    assert problems(DKIM) == [f"{begin}, which is no file; name a file"]


def test_a_key_that_others_may_read_is_a_doubt_and_write_a_problem(problems, warnings, tmp_path):
    key = ed25519.Ed25519PrivateKey.generate()
    write_key(tmp_path / "dkim.key", key, mode=0o640)
    assert warnings(DKIM) == []
    write_key(tmp_path / "dkim.key", key, mode=0o644)
    (warning,) = warnings(DKIM)
    assert warning.startswith('dkim."example.com".key: found "dkim.key", which everybody may read; chmod o-rwx')
    write_key(tmp_path / "dkim.key", key, mode=0o602)
    (problem,) = problems(DKIM)
    assert problem.startswith('dkim."example.com".key: found "dkim.key", which everybody may change; chmod o-w')


def test_two_keys_of_a_domain_have_two_selectors(problems, tmp_path):
    write_key(tmp_path / "dkim.key", ed25519.Ed25519PrivateKey.generate())
    twice = '[[dkim."example.com"]]\nselector = "s"\nkey = "dkim.key"\n' * 2
    assert problems(twice) == ['dkim."example.com": the same selector twice; give each key its own selector']


def test_a_good_certificate_passes(warnings, tmp_path, authority):
    assert warnings(LISTENER + write_certificate(tmp_path, authority, "mail.example.com")) == []
    assert warnings(LISTENER + write_certificate(tmp_path, authority, "*.example.com")) == []


def test_a_certificate_and_another_key_are_told(problems, tmp_path, authority):
    tls = write_certificate(tmp_path, authority, "mail.example.com")
    write_key(tmp_path / "tls.key", ec.generate_private_key(ec.SECP256R1()))
    assert problems(tls) == [
        'tls.key: found "tls.key", which is not the certificate\'s; name the key that belongs to it'
    ]
    write_key(tmp_path / "tls.key", ec.generate_private_key(ec.SECP256R1()), BestAvailableEncryption(b"x"))
    assert problems(tls) == ['tls.key: found "tls.key", which is encrypted; store the key without a passphrase']
    (tmp_path / "tls.crt").write_text("no certificate")
    (problem,) = problems(tls)
    assert problem.startswith('tls.certificate: found "tls.crt" (')
    (tmp_path / "tls.crt").unlink()
    assert problems(tls) == ['tls.certificate: found "tls.crt", which does not exist; create it or name another']


def test_a_certificate_out_of_its_time_is_a_doubt(warnings, tmp_path, authority):
    start = datetime(2030, 1, 1, tzinfo=UTC)
    tls = LISTENER + write_certificate(
        tmp_path, authority, "mail.example.com", not_before=start, not_after=start + timedelta(days=90)
    )
    for days, words in ((-1, "not valid yet"), (1, None), (80, "expires on 2030-04-01"), (91, "expired on 2030-04-01")):
        found = warnings(tls, now=start.timestamp() + days * 86_400)
        assert [words in warning for warning in found] == ([True] if words else []), (days, found)


def test_a_certificate_of_another_name_is_a_doubt(warnings, tmp_path, authority):
    (warning,) = warnings(LISTENER + write_certificate(tmp_path, authority, "other.example.com"))
    assert "which does not name mail.example.com" in warning


def test_the_data_folder_is_ours_alone(problems, warnings, tmp_path):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    assert warnings(LISTENER) == []
    data.chmod(0o755)
    (warning,) = warnings(LISTENER)
    assert warning.startswith('data_dir: found "data", which everybody may read; chmod 0700')
    data.chmod(0o777)
    (problem,) = problems(LISTENER)
    assert problem.startswith('data_dir: found "data", which everybody may change; chmod 0700')
    data.chmod(0o700)
    data.rename(tmp_path / "real")
    data.symlink_to(tmp_path / "real")
    assert problems(LISTENER) == ['data_dir: found "data", which is a symbolic link; name the folder itself: real']
    data.unlink()
    data.write_text("")
    assert problems(LISTENER) == ['data_dir: found "data", which is no folder; name a folder for the relay alone']


def test_the_data_folder_can_be_made(report, tmp_path):
    (problem,) = report(LISTENER, {"RELAY_DATA_DIR": "none/data"}).problems
    assert problem.key == "RELAY_DATA_DIR"
    assert problem.found.endswith(f"and {tmp_path}/none does not exist either")


def test_the_system_user_exists(report):
    (problem,) = report(LISTENER, {"RELAY_USER": "no-such-user"}).problems
    assert problem.remedy.startswith("create the user: useradd --system")
    (problem,) = report(LISTENER, {"RELAY_USER": "root"}).problems
    assert problem.remedy == "use another user than root"
    assert report(LISTENER, {"RELAY_USER": "nobody"}).problems == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_secrets_that_a_reload_could_not_read_are_a_doubt(report, tmp_path):
    key = write_key(tmp_path / "dkim.key", ed25519.Ed25519PrivateKey.generate())
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    # The tests' folder is root's alone: the key goes where everybody may pass.
    with tempfile.TemporaryDirectory(dir="/tmp") as open_folder:
        Path(open_folder).chmod(0o755)
        moved = shutil.copy2(key, open_folder)
        environ = {"RELAY_USER": "nobody", "RELAY_DKIM__EXAMPLE.COM__0__KEY": moved}
        (warning,) = report(DKIM, environ).warnings
        assert warning.found.endswith("closed to the user nobody")
        assert f"chgrp {group} {moved} " in warning.remedy
        os.chown(moved, -1, nobody.pw_gid)
        Path(moved).chmod(0o640)
        assert report(DKIM, environ).warnings == ()
        Path(open_folder).chmod(0o700)
        (warning,) = report(DKIM, environ).warnings
        assert f"chgrp {group} {open_folder} " in warning.remedy


def test_a_log_is_no_link(problems, tmp_path):
    (tmp_path / "link").symlink_to("/dev/stderr")
    assert problems('[log]\ndestination = "link"') == [
        'log.destination: found "link", which is a symbolic link; name the file itself, or "stderr"'
    ]
