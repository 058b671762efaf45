"""`relay dkim`."""

import tomllib
from pathlib import Path

import pytest

from relay.message.dkim.keys import load, record
from tests.support.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_generate_makes_adds_and_shows(shell):
    ran = shell.run("dkim", "generate", "Example.test", "--selector", "one", "--type", "ed25519")
    assert ran.code == 0
    path = shell.data_dir / "dkim" / "example.test.one.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    key = load(path.read_bytes(), "example.test", "one")
    assert ran.out == f'one._domainkey.example.test. IN TXT "{record(key)}"\n'
    added = tomllib.loads(shell.settings.read_text())["dkim"]["example.test"]
    assert added == [{"selector": "one", "key": "data/dkim/example.test.one.pem"}]
    assert "PRIVATE" not in ran.out + ran.err
    # A second key of the domain goes beside the first.
    assert shell.run("dkim", "generate", "example.test", "--selector", "two").code == 0
    assert [r["selector"] for r in shell.run("dkim", "list", "--json").records] == ["one", "two"]
    assert shell.run("dkim", "generate", "example.test", "--selector", "one").code == 1


def test_rsa_records_are_split(shell):
    ran = shell.run("dkim", "generate", "example.test", "--selector", "r")
    strings = [line.strip(' )"') for line in ran.lines[1:]]
    assert len(strings) == 2
    assert all(len(string) <= 255 for string in strings)
    [shown] = shell.run("dkim", "dns", "example.test", "--json").records
    assert shown["strings"] == strings
    assert shown["value"] == "".join(strings)
    assert shown["name"] == "r._domainkey.example.test"
    ran = shell.run("dkim", "dns")
    assert ran.out.count("r._domainkey.example.test") == 2
    assert "".join(strings) in ran.lines


def test_default_selectors_differ_by_type(shell):
    for kind in ("rsa", "ed25519"):
        assert shell.run("dkim", "generate", "example.test", "--type", kind).code == 0
    rsa, ed = shell.run("dkim", "list", "--json").records
    assert (rsa["type"], ed["type"]) == ("rsa", "ed25519")
    assert rsa["selector"].startswith("rsa")
    assert ed["selector"].startswith("ed")
    assert [line.split()[2] for line in shell.run("dkim", "list").lines[1:]] == ["RSA", "Ed25519"]


def test_settings_can_be_left_alone(shell):
    before = shell.settings.read_text()
    ran = shell.run("dkim", "generate", "example.test", "--selector", "x", "--type", "ed25519", "--no-settings")
    assert ran.code == 0
    assert '[[dkim."example.test"]]' in ran.err
    assert shell.settings.read_text() == before


def test_settings_that_would_break_are_restored(shell):
    with shell.settings.open("a") as file:
        file.write('[dkim]\n"example.test" = [{ selector = "old", key = "data/old.pem" }]\n')
    before = shell.settings.read_text()
    ran = shell.run("dkim", "generate", "example.test", "--selector", "x", "--type", "ed25519")
    assert ran.code == 0
    assert ran.err.count("Add this to") == 1
    assert shell.settings.read_text() == before


@pytest.mark.parametrize(
    "args",
    [
        ("generate",),
        ("generate", "not a domain"),
        ("generate", "example.test", "--selector", "-x"),
        ("generate", "example.test", "--selector", "../x"),
        ("generate", "example.test", "--type", "dsa"),
    ],
)
def test_wrong_usage(shell, args):
    assert shell.run("dkim", *args).code == 2
    assert list(shell.data_dir.iterdir()) == []


def test_nothing_to_show(shell):
    for args in (("list",), ("dns",), ("dns", "example.test"), ("dns", "x\x1b[2J")):
        ran = shell.run("dkim", *args)
        assert (ran.code, ran.out) == (3, "")
        assert "\x1b" not in ran.err


def test_a_key_that_is_gone_is_named(shell):
    shell.run("dkim", "generate", "example.test", "--selector", "x", "--type", "ed25519")
    (shell.data_dir / "dkim" / "example.test.x.pem").unlink()
    ran = shell.run("dkim", "list")
    assert ran.code == 1
    assert "example.test.x.pem" in ran.err
