"""`relay sandbox`."""

from pathlib import Path

import pytest

from relay.sandbox.store import Envelope, SandboxStore
from relay_queue.ids import new_id
from tests.support.shell import SETTINGS, Shell

SANDBOX = SETTINGS + '[sandbox]\nreceiver = "127.0.0.1:2599"\n'


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, SANDBOX)


def keep(
    shell: Shell,
    *recipients: str,
    subject: str = "Hi",
    content: bytes = b"Subject: Hi\r\n\r\nx\r\n",
    queue_id: str = "",
) -> str:
    store = SandboxStore(shell.data_dir / "sandbox")
    store.prepare()
    envelope = Envelope(
        id=new_id(),
        received_at=1_700_000_000.0,
        sender="app@example.test",
        recipients=recipients,
        size=len(content),
        subject=subject,
        queue_id=queue_id,
    )
    store.add(envelope, [content])
    return envelope.id


def test_nothing_arrived(shell):
    for args in (("list",), ("list", "--json"), ("clear",), ("show", new_id()), ("show", "../x")):
        ran = shell.run("sandbox", *args)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith("relay: ")


def test_list_newest_first(shell):
    first = keep(shell, "b@example.test")
    second = keep(shell, "c@example.test", "d@example.test", subject="\x1b[2J")
    ran = shell.run("sandbox", "list")
    assert ran.code == 0
    assert ran.lines[1].startswith(second)
    assert "c@example.test and 1 other" in ran.lines[1]
    assert "\\x1b[2J" in ran.lines[1]
    assert ran.lines[2].startswith(first)
    assert len(shell.run("sandbox", "list", "--limit", "1").lines) == 2


def test_list_as_json_and_by_recipient(shell):
    wanted = keep(shell, "b@example.test", "c@example.test")
    keep(shell, "d@example.test")
    [record] = shell.run("sandbox", "list", "--json", "--recipient", "C@example.test").records
    assert record["id"] == wanted
    assert record["recipients"] == ["b@example.test", "c@example.test"]
    assert record["received_at"] == "2023-11-14T22:13:20.000Z"
    assert shell.run("sandbox", "list", "--recipient", "x@example.test").code == 3


def test_show_gives_the_octets_as_they_arrived(shell):
    content = b"Subject: Hi\r\n\r\n\xff\x00binary\r\n"
    kept = keep(shell, "b@example.test", content=content)
    ran = shell.run("sandbox", "show", kept)
    assert ran.code == 0
    assert ran.raw == content
    assert "<app@example.test> to <b@example.test>" in ran.err
    assert shell.run("sandbox", "show", kept, "--json").records[0]["id"] == kept


def test_show_takes_the_queue_id(shell):
    queue_id = new_id()
    keep(shell, "x@example.test")
    first = keep(shell, "b@example.test", content=b"one\r\n", queue_id=queue_id)
    ran = shell.run("sandbox", "show", queue_id)
    assert (ran.code, ran.raw) == (0, b"one\r\n")
    assert shell.run("sandbox", "show", f"{queue_id}/0").raw == b"one\r\n"
    assert shell.run("sandbox", "show", queue_id, "--json").records[0]["id"] == first
    second = keep(shell, "c@example.test", content=b"two\r\n", queue_id=queue_id)
    ran = shell.run("sandbox", "show", queue_id)
    assert ran.raw == b"two\r\n"
    assert f"arrived 2 times; this is the newest. The others: {first}" in ran.err
    assert shell.run("sandbox", "show", first).raw == b"one\r\n"
    assert second != first
    ran = shell.run("sandbox", "show", new_id())
    assert ran.code == 3
    assert "relay queue list" in ran.err
    assert shell.run("sandbox", "show", "").code == 3


def test_subjects_are_decoded(shell):
    keep(shell, "b@example.test", subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?q?=1b[31m=E2=80=AE?=")
    keep(shell, "b@example.test", subject="x" * 1000)
    ran = shell.run("sandbox", "list")
    assert "Grüße\\x1b[31m\\u202e" in ran.lines[2]
    assert ran.lines[1].endswith("x" * 200 + "…")
    assert shell.run("sandbox", "list", "--json").records[1]["subject"] == "Grüße\x1b[31m\u202e"


def test_a_terminal_is_not_steered_by_a_message(shell, monkeypatch):
    content = b"Subject: \x1b]0;x\x07\r\n\r\n\x9b31m \xe2\x80\xae\xc2\x9b \xc3\xa4\ttab\rcr\r\n"
    kept = keep(shell, "b\x1b[2J@example.test", content=content)
    monkeypatch.setattr("relay.cli.output.in_terminal", lambda: True)
    ran = shell.run("sandbox", "show", kept)
    assert ran.out == "Subject: \\x1b]0;x\\x07\n\n\\x9b31m \\u202e\\x9b ä\ttab\\rcr\n"
    assert "\x1b" not in ran.err
    assert "b\\x1b[2J@example.test" in ran.err
    assert shell.run("sandbox", "show", "--raw", kept).raw == content


def test_clear(shell):
    keep(shell, "b@example.test")
    keep(shell, "b@example.test")
    ran = shell.run("sandbox", "clear")
    assert (ran.code, ran.out) == (0, "Forgot 2 messages.\n")
    assert shell.run("sandbox", "list").code == 3


def test_only_in_a_sandbox(tmp_path):
    ran = Shell(tmp_path).run("sandbox", "list")
    assert ran.code == 1
    assert "has no sandbox" in ran.err
