"""`relay user`."""

from pathlib import Path

import pytest

from relay.submission.passwords import is_password, is_secret
from relay.submission.users import read_users
from tests.support.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def users(shell: Shell):
    return read_users(shell.data_dir / "users.json")


def test_add_generates_a_password(shell):
    ran = shell.run("user", "add", "App", "--sender", "Example.test", "--sender", "a@EXAMPLE.org")
    assert ran.code == 0
    [secret] = ran.lines
    assert is_secret(users(shell)["app"].credential, secret)
    assert users(shell)["app"].senders == ("example.test", "a@example.org")
    assert secret not in (shell.data_dir / "users.json").read_text()
    assert secret not in ran.err
    assert (shell.data_dir / "users.json").stat().st_mode & 0o777 == 0o600


def test_add_takes_a_password_from_stdin(shell):
    ran = shell.run("user", "add", "ann@example.test", "--password", stdin="correct horse\n")
    assert (ran.code, ran.out) == (0, "")
    assert is_password(users(shell)["ann@example.test"].credential, "correct horse")
    assert users(shell)["ann@example.test"].senders == ("ann@example.test",)


def test_a_weak_password_changes_nothing(shell):
    ran = shell.run("user", "add", "ann@example.test", "--password", stdin="short\n")
    assert ran.code == 1
    assert "at least 8" in ran.err
    assert users(shell) == {}


@pytest.mark.parametrize(
    "args",
    [
        ("add", "app"),
        ("add", "bad name", "--sender", "*"),
        ("add", "app", "--sender", "not a domain"),
        ("add", "app", "--sender", "*", "--password", "--generate"),
        ("add", "app", "--sender", "*", "--password", "secret-on-argv"),
        ("remove",),
        ("passwd",),
    ],
)
def test_wrong_usage(shell, args):
    ran = shell.run("user", *args, stdin="correct horse\n")
    assert (ran.code, ran.out) == (2, "")
    assert users(shell) == {}


def test_a_name_is_added_once(shell):
    shell.run("user", "add", "app", "--sender", "*")
    before = users(shell)
    ran = shell.run("user", "add", "APP", "--sender", "x.test")
    assert ran.code == 1
    assert "relay user passwd app" in ran.err
    assert users(shell) == before


def test_list(shell):
    assert shell.run("user", "list").code == 3
    shell.run("user", "add", "app", "--sender", "example.test", "--sender", "*")
    shell.run("user", "add", "ann@example.test", "--password", stdin="correct horse\n")
    ran = shell.run("user", "list")
    assert [line.split()[0] for line in ran.lines] == ["NAME", "ann@example.test", "app"]
    ann, app = shell.run("user", "list", "--json").records
    assert (ann["password"], app["password"]) == ("chosen", "generated")
    assert app["senders"] == ["example.test", "*"]
    assert "credential" not in app


def test_add_as_json_has_the_secret(shell):
    [record] = shell.run("user", "add", "app", "--sender", "*", "--json").records
    assert is_secret(users(shell)["app"].credential, record["secret"])


def test_passwd_replaces_the_old_one(shell):
    [old] = shell.run("user", "add", "app", "--sender", "*").lines
    [new] = shell.run("user", "passwd", "App").lines
    credential = users(shell)["app"].credential
    assert is_secret(credential, new)
    assert not is_secret(credential, old)
    assert users(shell)["app"].senders == ("*",)
    assert shell.run("user", "passwd", "app", "--password", stdin="correct horse\n").code == 0
    assert is_password(users(shell)["app"].credential, "correct horse")
    assert shell.run("user", "passwd", "nobody").code == 3


def test_remove(shell):
    for name in ("a", "b", "c"):
        shell.run("user", "add", name, "--sender", "*")
    assert shell.run("user", "remove", "a", "nobody").code == 3
    assert set(users(shell)) == {"a", "b", "c"}
    assert shell.run("user", "remove", "A", "b").code == 0
    assert set(users(shell)) == {"c"}


def test_a_damaged_file_is_a_sentence(shell):
    (shell.data_dir / "users.json").write_text("{")
    for args in (("list",), ("add", "app", "--sender", "*"), ("remove", "x")):
        ran = shell.run("user", *args)
        assert ran.code == 1
        assert "damaged" in ran.err
    assert (shell.data_dir / "users.json").read_text() == "{"
