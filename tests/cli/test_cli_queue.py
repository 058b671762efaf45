"""`relay queue`: look and steer, on a real queue in a folder."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay_queue.ids import new_id
from relay_queue.model import Put, Selection
from relay_queue.protocol import Admin
from relay_queue.sqlite import open_admin
from tests.support.mail import message_put
from tests.support.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@contextmanager
def opened(shell: Shell) -> Iterator[Admin]:
    admin = open_admin(shell.data_dir)
    try:
        yield admin
    finally:
        admin.close()


def fill(shell: Shell, *puts: Put) -> list[str]:
    with opened(shell) as admin:
        for put in puts:
            admin.put(put)
    return [put.entry.message.id for put in puts]


def states(shell: Shell) -> dict[str, str]:
    """Recipient addresses and their states."""
    with opened(shell) as admin:
        entries = list(admin.select(Selection(), None))
    return {r.address: r.state.word for entry in entries for r in entry.recipients}


VIEWS = [("list",), ("list", "--json"), ("list", "--ids"), ("summary",), ("summary", "--json")]


@pytest.mark.parametrize("args", [*VIEWS, ("show", "0" * 26), ("cat", "0" * 26), ("cat", "no id")])
def test_nothing_matches_is_exit_3(shell, args):
    ran = shell.run("queue", *args)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.startswith("relay: ")


@pytest.mark.parametrize("args", VIEWS)
def test_views_touch_nothing(shell, args):
    fill(shell, message_put("b@x.test", "c@y.test"))
    before = states(shell)
    assert shell.run("queue", *args).code == 0
    assert states(shell) == before


def test_list_says_why(shell):
    now = time.time()
    held = message_put("held@x.test")
    late = message_put(
        "late@x.test",
        recipient={"attempts": 1, "reply": "450 4.2.0 busy\x1b[2J", "lane": "mx.x.test"},
    )
    late.entry.recipients[0].due_at = now + 1000
    first, second = fill(shell, held, late)
    shell.run("queue", "hold", first)
    ran = shell.run("queue", "list")
    assert ran.code == 0
    assert ran.lines[0].split() == ["ID", "AGE", "SIZE", "SENDER", "RECIPIENT", "STATE", "WHY"]
    assert ran.lines[1].startswith(first)
    assert ran.lines[1].endswith("held until released")
    assert ran.lines[2].startswith(second)
    assert "attempt 2 in 16 min" in ran.lines[2]
    assert "450 4.2.0 busy\\x1b[2J" in ran.lines[2]
    assert "not running" in ran.err


def test_list_as_json(shell):
    [message] = fill(shell, message_put("b@x.test", "c@y.test"))
    one, two = shell.run("queue", "list", "--json").records
    assert (one["id"], one["n"], one["recipient"]) == (message, 0, "b@x.test")
    assert (two["id"], two["n"], two["recipient"]) == (message, 1, "c@y.test")
    assert one["state"] == "queued"
    assert one["received_at"] == "2023-11-14T22:13:20.000Z"
    assert one["why"] == "first attempt due now"


def test_list_names_a_suspension(shell):
    fill(shell, message_put("b@x.test"))
    assert shell.run("suspend", "add", "--domain", "X.test", "--for", "2h", "--reason", "their move").code == 0
    assert "suspended for another 2 h (domain x.test: their move)" in shell.run("queue", "list").out


def test_limit_says_that_there_is_more(shell):
    fill(shell, *(message_put("b@x.test") for _ in range(3)))
    ran = shell.run("queue", "list", "--limit", "2")
    assert len(ran.lines) == 3
    assert "The oldest 2 messages" in ran.err
    assert len(shell.run("queue", "list", "--ids").lines) == 3


def test_every_filter_selects(shell):
    wanted = message_put(
        "b@x.test",
        sender="who@from.test",
        user="alice",
        content=b"Subject: x\r\n\r\n" + b"x" * 3000,
        recipient={"lane": "mx1.x.test"},
    )
    [name] = fill(shell, wanted)
    shell.run("queue", "hold", name, "--reason", "450 Greylisted")
    other = message_put("c@y.test", sender="", user=None, received_at=time.time())
    fill(shell, other)
    for options in (
        ("--id", name),
        ("--id", f"{name}/0"),
        (name,),
        ("--sender", "who@from.test"),
        ("--sender-domain", "FROM.test"),
        ("--recipient", "b@x.test"),
        ("--domain", "X.test"),
        ("--site", "mx?.x.*"),
        ("--state", "held"),
        ("--state", "held", "--state", "quarantined"),
        ("--user", "alice"),
        ("--older-than", "2h"),
        ("--larger-than", "2KiB"),
        ("--error", "GREYlist"),
    ):
        assert shell.run("queue", "list", "--ids", *options).lines == [name], options
    assert shell.run("queue", "list", "--ids", "--sender", "").lines == [other.entry.message.id]
    assert shell.run("queue", "list", "--ids", "--state", "held", "--user", "bob").code == 3


@pytest.mark.parametrize(
    "args",
    [
        ("list", "nonsense"),
        ("list", f"{'0' * 26}/x"),
        ("list", "--state", "delivered"),
        ("list", "--older-than", "2"),
        ("list", "--older-than", "yesterday"),
        ("list", "--larger-than", "1M"),
        ("list", "--limit", "0"),
        ("hold",),
        ("drop",),
        ("fail", "--dry-run"),
        ("drop", "--all", "--user", "x"),
        ("flush", "--reason", "x", "--all"),
        ("nonsense",),
        ("show",),
    ],
)
def test_wrong_usage_is_exit_2(shell, args):
    fill(shell, message_put("b@x.test"))
    ran = shell.run("queue", *args, stdin="y\n")
    assert (ran.code, ran.out) == (2, "")
    assert states(shell) == {"b@x.test": "queued"}


def test_summary_counts_by_domain(shell):
    fill(
        shell,
        message_put("a@x.test", "b@x.test", "c@y.test"),
        message_put("d@x.test"),
    )
    shell.run("queue", "hold", "--recipient", "d@x.test")
    ran = shell.run("queue", "summary")
    assert ran.lines[1].split()[:5] == ["x.test", "2", "0", "1", "0"]
    assert ran.lines[2].split()[:5] == ["y.test", "1", "0", "0", "0"]
    assert "4 waiting recipients" in ran.err
    [record] = shell.run("queue", "summary", "--json", "--domain", "y.test").records
    assert (record["domain"], record["queued"], record["held"]) == ("y.test", 1, 0)


def test_show_and_cat(shell):
    put = message_put("b@x.test", "c@y.test", content=b"Subject: Hi\r\n\r\n\xff\x00\r\n")
    [name] = fill(shell, put)
    assert shell.run("queue", "cat", name).raw == b"Subject: Hi\r\n\r\n\xff\x00\r\n"
    shell.run("queue", "drop", f"{name}/1")
    ran = shell.run("queue", "show", name)
    assert ran.code == 0
    assert f"Message:    {name}" in ran.out
    assert "Sender:     app@example.test" in ran.out
    assert ran.lines[-2].split()[:3] == ["0", "b@x.test", "queued"]
    assert ran.lines[-1].split()[:3] == ["1", "c@y.test", "dropped"]
    live, ended = shell.run("queue", "show", name, "--json").records
    assert (live["state"], ended["state"], ended["reply"], ended["reason"]) == ("queued", "dropped", None, None)
    shell.run("queue", "drop", name)
    assert [r["state"] for r in shell.run("queue", "show", name, "--json").records] == ["dropped", "dropped"]
    assert shell.run("queue", "cat", name).code == 3


def test_a_reason_stands_beside_the_last_answer(shell):
    deferred = {"attempts": 1, "reply": "450 4.2.0 busy"}
    held, dropped, failed = fill(shell, *(message_put(f"{name}@x.test", recipient=deferred) for name in "abc"))
    shell.run("queue", "hold", held, "--reason", "asking them")
    shell.run("queue", "drop", dropped, "--reason", "spam")
    shell.run("queue", "fail", failed, "--reason", "mistyped")
    [live] = shell.run("queue", "list", "--json", held).records
    assert (live["reply"], live["reason"]) == ("450 4.2.0 busy", "asking them")
    assert live["why"] == "held until released (asking them), after: 450 4.2.0 busy"
    for name, reason in ((dropped, "spam"), (failed, "mistyped")):
        [ended] = shell.run("queue", "show", name, "--json").records
        assert (ended["reply"], ended["reason"]) == ("450 4.2.0 busy", reason)
        assert f"by an administrator: {reason}, after: 450 4.2.0 busy" in shell.run("queue", "show", name).out
    [dsn] = shell.run("queue", "list", "--ids", "--recipient", "app@example.test").lines
    bounce = " ".join(shell.run("queue", "cat", dsn).out.split())
    assert "An administrator of this server gave it up: mistyped" in bounce
    assert "The last attempt ended with: 450 4.2.0 busy" in bounce
    shell.run("queue", "release", held)
    [live] = shell.run("queue", "list", "--json", held).records
    assert (live["reply"], live["reason"]) == ("450 4.2.0 busy", None)


def test_hold_and_release(shell):
    [one, two] = fill(shell, message_put("b@x.test"), message_put("c@y.test"))
    ran = shell.run("queue", "hold", one, "--reason", "asking them")
    assert (ran.code, ran.out) == (0, "Held 1 recipient of 1 message.\n")
    assert states(shell) == {"b@x.test": "held", "c@y.test": "queued"}
    assert "asking them" in shell.run("queue", "list", one).out
    assert shell.run("queue", "release", two).code == 3, "it is not held"
    [record] = shell.run("queue", "release", "--all", "--json").records
    assert record == {"action": "release", "dry_run": False, "recipients": 1, "messages": 1, "requested": 0}
    assert states(shell) == {"b@x.test": "queued", "c@y.test": "queued"}


def test_flush_makes_due(shell):
    put = message_put("b@x.test")
    put.entry.recipients[0].due_at = time.time() + 5000
    fill(shell, put)
    assert "due now" not in shell.run("queue", "list").out
    assert shell.run("queue", "flush", "--domain", "x.test").code == 0
    assert "due now" in shell.run("queue", "list").out


def test_dry_run_changes_nothing(shell):
    [name] = fill(shell, message_put("b@x.test", "c@y.test"))
    for verb in ("flush", "hold", "drop", "fail"):
        ran = shell.run("queue", verb, "--domain", "y.test", "--dry-run")
        assert ran.code == 0
        assert ran.lines[1].split() == [f"{name}/1", "app@example.test", "c@y.test", "queued"]
        assert ran.lines[2] == f"Would {verb}: 1 recipient of 1 message."
    assert shell.run("queue", "drop", "--all", "--dry-run").code == 0, "asks nothing"
    assert states(shell) == {"b@x.test": "queued", "c@y.test": "queued"}


@pytest.mark.parametrize("name", ["x.test.", "x test", "x。test。", "ü" * 80])
def test_a_suspension_that_could_never_match_is_refused(shell, name):
    ran = shell.run("suspend", "add", "--domain", name)
    assert ran.code == 2
    assert "no domain name" in ran.err


def test_ids_from_stdin(shell):
    names = fill(shell, *(message_put("b@x.test") for _ in range(3)))
    ran = shell.run("queue", "drop", "-", stdin="\n".join(names[:2]) + "\n")
    assert ran.out == "Dropped 2 recipients of 2 messages.\n"
    assert shell.run("queue", "list", "--ids").lines == names[2:]


def test_an_empty_stdin_drops_nothing(shell):
    fill(shell, message_put("b@x.test"))
    for stdin in ("", "\n \n"):
        assert shell.run("queue", "drop", "-", stdin=stdin).code == 3
    assert states(shell) == {"b@x.test": "queued"}


@pytest.mark.parametrize("verb", ["drop", "fail"])
def test_deleting_all_asks(shell, verb):
    fill(shell, message_put("b@x.test", sender=""))
    for stdin in ("n\n", "", "\n"):
        ran = shell.run("queue", verb, "--all", stdin=stdin)
        assert ran.code == 1
        assert "1 recipient?" in ran.err
        assert states(shell) == {"b@x.test": "queued"}
    assert shell.run("queue", verb, "--all", stdin="y\n").code == 0
    assert states(shell) == {}
    assert shell.run("queue", verb, "--all", stdin="y\n").code == 3


def test_yes_does_not_ask(shell):
    fill(shell, message_put("b@x.test"))
    assert shell.run("queue", "drop", "--all", "--yes").code == 0
    assert states(shell) == {}


def test_fail_bounces_to_the_sender(shell):
    quiet = message_put("q@x.test", recipient={"notify": "NEVER"})
    bounce = message_put("n@x.test", sender="", user=None, origin="dsn")
    [name, *_] = fill(shell, message_put("b@x.test", "c@y.test"), quiet, bounce)
    ran = shell.run("queue", "fail", "--domain", "x.test", "--reason", "mistyped address")
    assert ran.out == "Failed 3 recipients of 3 messages.\n"
    assert states(shell) == {"c@y.test": "queued", "app@example.test": "queued"}, "one bounce, for the one who wants it"
    [dsn] = shell.run("queue", "list", "--ids", "--recipient", "app@example.test").lines
    text = shell.run("queue", "cat", dsn).out
    assert "b@x.test" in text
    assert "mistyped address" in text
    assert "Subject: Message" in text, "the original's header is there though its body is gone"
    assert [r["state"] for r in shell.run("queue", "show", name, "--json").records] == ["queued", "failed"]


def test_fail_returns_the_original_of_a_message_that_ends(shell):
    fill(shell, message_put("b@x.test", content=b"From: app@example.test\r\nSubject: Unusual words\r\n\r\nx\r\n"))
    assert shell.run("queue", "fail", "--all", "--yes").code == 0
    [dsn] = shell.run("queue", "list", "--ids").lines
    assert "Unusual words" in shell.run("queue", "cat", dsn).out


def test_ids_of_many_recipients(shell):
    [name] = fill(shell, message_put(*(f"r{n}@x.test" for n in range(3))))
    assert shell.run("queue", "hold", f"{name}/2").code == 0
    assert states(shell) == {"r0@x.test": "queued", "r1@x.test": "queued", "r2@x.test": "held"}
    assert shell.run("queue", "hold", f"{new_id()}").code == 3


def test_a_missing_data_folder_is_a_sentence(tmp_path):
    shell = Shell(tmp_path)
    shell.data_dir.rmdir()
    ran = shell.run("queue", "list")
    assert ran.code == 1
    assert "no such data folder" in ran.err


def test_a_queue_of_a_newer_version_is_a_sentence(shell):
    import sqlite3

    fill(shell, message_put("b@x.test"))
    with sqlite3.connect(shell.data_dir / "queue.db") as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    ran = shell.run("queue", "list")
    assert ran.code == 1
    assert "Traceback" not in ran.err
    assert ran.err.startswith("relay: ")
