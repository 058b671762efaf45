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


def keep(shell: Shell, *recipients: str, subject: str = "Hi", content: bytes = b"Subject: Hi\r\n\r\nx\r\n") -> str:
    store = SandboxStore(shell.data_dir / "sandbox")
    store.prepare()
    envelope = Envelope(
        id=new_id(),
        received_at=1_700_000_000.0,
        sender="app@example.test",
        recipients=recipients,
        size=len(content),
        subject=subject,
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
