"""`relay init`: what it makes is valid, private and complete, and nothing is overwritten."""

import os
import pwd
import ssl
import stat
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace

from relay.cli.certificate import self_signed
from relay.cli.first_steps import Door, Facts, for_sandbox
from relay.cli.greeting import doors
from relay.cli.starter import SANDBOX_DOORS
from relay.message.dkim.keys import load as load_key
from relay.message.dkim.keys import record_strings
from relay.submission.passwords import is_secret
from relay.submission.users import read_users
from relay_config.check import check
from relay_config.load import load
from relay_config.schema import Listener
from tests.support.shell import run


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sandbox_is_ready_to_run(tmp_path):
    folder = tmp_path / "sandbox"
    ran = run("init", "--sandbox", str(folder))
    assert ran.code == 0, ran.err
    report = check(folder / "relay.toml", {}, time.time())
    assert report.problems == ()
    assert report.warnings == ()
    settings = report.checked()
    assert settings.sandbox.receiver == "127.0.0.1:2599"
    assert [(one.address, one.tls, one.auth) for one in settings.listener] == [
        ("127.0.0.1:2525", "none", "optional"),
        ("127.0.0.1:2587", "starttls", "required"),
        ("127.0.0.1:2465", "implicit", "required"),
    ]
    assert settings.submission.trusted_networks == ("127.0.0.0/8", "::1/128")
    assert settings.data_dir == str(folder / "data")
    assert [len(keys) for keys in settings.dkim.values()] == [2]


def test_production_settings_are_valid(tmp_path):
    ran = run("init", "--hostname", "mail.Example.test", "--data-dir", str(tmp_path / "var"), str(tmp_path / "etc"))
    assert ran.code == 0, ran.err
    report = check(tmp_path / "etc" / "relay.toml", {}, time.time())
    assert report.problems == ()
    settings = report.checked()
    assert settings.hostname == "mail.example.test"
    assert settings.sandbox.receiver is None
    assert settings.data_dir == str(tmp_path / "var")
    assert all(one.auth == "required" and one.tls != "none" for one in settings.listener)
    assert settings.submission.trusted_networks == ()
    assert list(settings.dkim) == ["example.test"]


def test_the_password_works_and_is_kept_nowhere_but_in_a_sandbox(tmp_path):
    for options, kept in ((["--sandbox"], True), (["--hostname", "mail.example.test"], False)):
        folder = tmp_path / options[0]
        ran = run("init", *options, str(folder))
        user = read_users(folder / "data" / "users.json")["app"]
        [line] = [line for line in ran.lines if line.startswith("User app, password ")]
        password = line.rpartition(" ")[2]
        assert is_secret(user.credential, password)
        holders = [name for name, content in tree(folder).items() if password.encode() in content]
        assert holders == (["data/sandbox/first-password"] if kept else [])


def test_files_are_private(tmp_path):
    folder = tmp_path / "sandbox"
    run("init", "--sandbox", str(folder))
    open_to_others = {
        str(path.relative_to(folder)) for path in folder.rglob("*") if stat.S_IMODE(path.stat().st_mode) & 0o077
    }
    assert open_to_others == {"relay.toml", "tls/certificate.pem"}
    assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700


def test_records_to_publish_are_those_of_the_keys(tmp_path):
    ran = run("init", "--hostname", "mail.example.test", str(tmp_path / "x"))
    settings = load(tmp_path / "x" / "relay.toml", {})
    for entry in settings.dkim["example.test"]:
        key = load_key(Path(entry.key).read_bytes(), "example.test", entry.selector)
        assert f"{entry.selector}._domainkey.example.test. IN TXT" in ran.out
        assert all(f'"{string}"' in ran.out for string in record_strings(key))
    published = [line.strip() for line in ran.lines if " IN " in line]
    assert 'mail.example.test. IN TXT "v=spf1 a -all"' in published
    assert 'example.test. IN TXT "v=spf1 a:mail.example.test -all"' in published
    assert any(line.startswith("_dmarc.example.test. IN TXT ") for line in published)
    words = " ".join(ran.out.split())
    assert "publish no second one but merge: add a:mail.example.test to the one it has" in words
    assert "example.test needs an MX record" in words


@pytest.mark.parametrize(
    ("addresses", "records"),
    [
        ((), ["mail.example.test. IN A 192.0.2.25"]),
        (("198.51.100.7",), ["mail.example.test. IN A 198.51.100.7"]),
        (
            ("198.51.100.7", "2001:db8::7"),
            ["mail.example.test. IN A 198.51.100.7", "mail.example.test. IN AAAA 2001:db8::7"],
        ),
    ],
)
def test_an_address_is_this_machines_or_one_that_is_set_aside_for_examples(tmp_path, monkeypatch, addresses, records):
    monkeypatch.setattr("relay.cli.init._public_addresses", lambda: addresses)
    ran = run("init", "--hostname", "mail.example.test", str(tmp_path / "x"))
    assert [line.strip() for line in ran.lines if " IN A" in line] == records
    assert ("192.0.2.25 stands for" in ran.out) is not bool(addresses)


def test_a_relay_named_like_its_domain_has_one_spf_record(tmp_path):
    ran = run("init", "--hostname", "example.test", "--domain", "example.test", str(tmp_path / "x"))
    assert ran.out.count('IN TXT "v=spf1') == 1
    assert 'example.test. IN TXT "v=spf1 a -all"' in ran.out


def test_nothing_is_overwritten(tmp_path):
    folder = tmp_path / "x"
    run("init", "--sandbox", str(folder))
    before = tree(folder)
    for options in (["--sandbox"], ["--hostname", "mail.example.test"]):
        ran = run("init", *options, str(folder))
        assert ran.code == 1
        assert "exists already" in ran.err
    (folder / "relay.toml").unlink()
    assert run("init", "--sandbox", str(folder)).code == 1, "the keys are still there"
    del before["relay.toml"]
    assert tree(folder) == before


def test_another_relays_data_is_left_alone(tmp_path):
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "users.json").write_text("precious")
    ran = run("init", "--sandbox", "--data-dir", str(tmp_path / "var"), str(tmp_path / "etc"))
    assert ran.code == 1
    assert "users.json exists already" in ran.err
    assert tree(tmp_path) == {"var/users.json": b"precious"}


@pytest.mark.parametrize(
    "args",
    [
        ("--hostname", "nodots"),
        ("--hostname", "bad name.test"),
        ("--hostname", "192.0.2.1"),
        ("--hostname", "a.test\nx = 1"),
        ("--sandbox", "--domain", "-x.test"),
        ("--hostname", "mail.example.test", "--domain", "test"),
    ],
)
def test_names_are_checked_before_anything_is_made(tmp_path, args):
    ran = run("init", *args, str(tmp_path / "x"))
    assert ran.code == 2
    assert not (tmp_path / "x").exists()


def test_international_names_become_a_labels(tmp_path):
    assert run("init", "--hostname", "mail.müller.test", str(tmp_path / "x")).code == 0
    assert load(tmp_path / "x" / "relay.toml", {}).hostname == "mail.xn--mller-kva.test"


def test_a_user_that_does_not_exist_is_named_first(tmp_path):
    ran = run("init", "--hostname", "mail.example.test", "--user", "no-such-user", str(tmp_path / "x"))
    assert ran.code == 1
    assert "no-such-user" in ran.err
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_the_data_to_the_relays_user(tmp_path):
    tmp_path.chmod(0o755)
    owner = pwd.getpwnam("nobody")
    folder = tmp_path / "x"
    assert run("init", "--hostname", "mail.example.test", "--user", "nobody", str(folder)).code == 0
    for path in (folder / "data", *(folder / "data").rglob("*"), *(folder / "tls").rglob("*")):
        assert path.stat().st_uid == owner.pw_uid, path
    assert (folder / "relay.toml").stat().st_uid == 0
    assert load(folder / "relay.toml", {}).user == "nobody"


def test_the_certificate(tmp_path):
    now = time.time()
    certificate_pem, key_pem = self_signed("mail.example.test", now)
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mail.example.test", "localhost"]
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1"}
    public = certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert public.curve.name == "secp256r1"
    assert certificate.not_valid_before_utc.timestamp() < now < certificate.not_valid_after_utc.timestamp()
    (tmp_path / "c").write_bytes(certificate_pem)
    (tmp_path / "k").write_bytes(key_pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "c", tmp_path / "k")
    assert self_signed("a" * 60 + ".example.test", now), "longer than a common name may be"


def test_a_sandbox_names_its_listeners_as_they_are(tmp_path):
    run("init", "--sandbox", str(tmp_path))
    settings = load(tmp_path / "relay.toml", {})
    assert doors(settings) == SANDBOX_DOORS
    listeners = [
        Listener(address="0.0.0.0:25", tls="none", auth="off"),
        Listener(address="[::]:587", tls="starttls", auth="optional"),
        Listener(address="10.0.0.1:465", tls="implicit", auth="optional"),
        Listener(address="10.0.0.1:26", tls="none", auth="off"),
    ]
    assert doors(replace(settings, listener=listeners)) == (
        Door("127.0.0.1", 25, "none", login=False),
        Door("[::1]", 587, "starttls", login=False),
        Door("10.0.0.1", 465, "implicit", login=True),
    )


@pytest.mark.parametrize(
    ("doors_", "curl", "swaks"),
    [
        ((Door("127.0.0.1", 25, "none", login=False),), "smtp://127.0.0.1:25 ", "--port 25 --from"),
        (
            (Door("10.0.0.1", 465, "implicit", login=True),),
            "smtps://10.0.0.1:465 --ssl-reqd",
            "--tls-on-connect --auth",
        ),
        ((Door("[::1]", 587, "starttls", login=False),), "smtp://[::1]:587 --ssl-reqd", "--port 587 --tls --from"),
    ],
)
def test_the_commands_fit_the_listener(doors_, curl, swaks):
    facts = Facts("relay", "r.toml", "c.pem", "a.test", "b.test", "app", "secret", doors=doors_)
    text = for_sandbox(facts)
    assert curl in text
    assert swaks in text
    assert ("secret" in text) == doors_[0].login


def test_a_sandbox_without_listeners_says_so():
    text = for_sandbox(Facts("relay", "r.toml", "", "a.test", "b.test", "app", "secret"))
    assert "no [[listener]]" in text
    assert "curl" not in text
    assert "secret" not in text
