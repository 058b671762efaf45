"""`relay events`, and the traces that the shell itself leaves."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.events.log import EventLog
from relay.model.peer import Peer
from relay.smtp.reply import Reply
from relay_config.load import load
from relay_queue.sqlite import open_admin
from tests.support.mail import message_put
from tests.support.running import CLEAN
from tests.support.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def refuse(shell: Shell, helo: str, ago: float = 0.0) -> None:
    (shell.data_dir / "events").mkdir(mode=0o700, exist_ok=True)
    log = EventLog(load(shell.settings, {}), "0", echo=False, clock=lambda: time.time() - ago)
    log.refused(Peer("192.0.2.1", 1, "x:25", helo=helo), "RCPT", Reply(550, "5.7.1", "No"))
    log.close()


def names(shell: Shell, *options: str) -> list[str]:
    return [record["event"] for record in shell.run("events", "--json", *options).records]


def put(shell: Shell, *addresses: str) -> str:
    admin = open_admin(shell.data_dir)
    message = message_put(*addresses)
    admin.put(message)
    admin.close()
    return message.entry.message.id


def test_nothing_happened(shell):
    for options in ((), ("--json",), ("--since", "1h")):
        ran = shell.run("events", *options)
        assert (ran.code, ran.out) == (3, "")


def test_lines_for_people_are_safe(shell):
    refuse(shell, "evil\x1b[2J\r\nx=y")
    ran = shell.run("events")
    assert ran.code == 0
    [line] = ran.lines
    assert "event=refused" in line
    assert "\x1b" not in line


def test_filters(shell):
    refuse(shell, "old", ago=7200)
    refuse(shell, "new")
    kept = put(shell, "b@x.test")
    shell.run("queue", "hold", kept)
    assert names(shell) == ["refused", "refused", "steered", "held"]
    assert names(shell, "--since", "1h") == ["refused", "steered", "held"]
    assert names(shell, "--kind", "steered", "--kind", "held") == ["steered", "held"]
    assert names(shell, "--id", kept) == names(shell, "--id", f"{kept}/0") == ["held"]
    assert names(shell, "--address", "B@x.test") == ["held"]
    assert names(shell, "--limit", "1") == ["held"]
    assert "newest 1 event" in shell.run("events", "--limit", "1").err
    assert shell.run("events", "--id", "0" * 26).code == 3


@pytest.mark.parametrize("options", [("--kind", "nonsense"), ("--since", "x"), ("--follow", "--since", "1h")])
def test_wrong_usage(shell, options):
    assert shell.run("events", *options).code == 2


def test_the_shell_leaves_traces(shell):
    kept = put(shell, "b@x.test", "c@x.test")
    shell.run("queue", "drop", f"{kept}/0", "--reason", "spam")
    shell.run("queue", "fail", f"{kept}/1", "--reason", "mistyped")
    shell.run("suspend", "add", "--domain", "x.test")
    shell.run("user", "add", "app", "--sender", "*")
    shell.run("queue", "hold", "--all", "--dry-run")
    events = shell.run("events", "--json").records
    assert [event["event"] for event in events] == [
        "steered", "dropped", "steered", "failed", "notified", "accepted", "steered", "steered",
    ]  # fmt: skip
    assert events[1]["reason"] == "spam"
    assert (events[3]["to"], events[3]["reason"]) == ("c@x.test", "mistyped")
    assert not any("reply" in event for event in events), "no server has answered yet"
    assert events[4]["to"] == "app@example.test"
    assert (events[5]["id"], events[5]["origin"]) == (events[4]["dsn"], "dsn")
    assert [event["action"] for event in events if event["event"] == "steered"] == [
        "drop", "fail", "suspend domain x.test", "user add app",
    ]  # fmt: skip
    assert all(event["who"] for event in events if event["event"] == "steered")


def steered(shell: Shell) -> list[tuple[str, int, str | None, str | None]]:
    """(action, count, filters, reason) of every record of an administrator's action."""
    events = [event for event in shell.run("events", "--json").records if event["event"] == "steered"]
    return [(event["action"], event["count"], event.get("filters"), event.get("reason")) for event in events]


def test_an_action_on_the_queue_leaves_what_was_selected_and_why(shell):
    ids = [put(shell, "b@x.test"), put(shell, "c@x.test"), put(shell, "d@y.test")]
    shell.run("queue", "hold", "--domain", "X.test", "--state", "queued", "--limit", "9", "--reason", "asking them")
    shell.run("queue", "release", "--error", "asking them", "--larger-than", "1B")
    shell.run("queue", "flush", "--all")
    shell.run("queue", "fail", ids[0], "--id", f"{ids[1]}/0", "--reason", "mistyped")
    shell.run("queue", "drop", "-", stdin=ids[2])
    shell.run("queue", "drop", "--domain", "nothing.test")
    assert steered(shell) == [
        ("hold", 2, "--domain x.test --state queued --limit 9", "asking them"),
        ("release", 2, "--larger-than 1B --error 'asking them'", None),
        ("flush", 3, "--all", None),
        ("fail", 2, f"{ids[0]} {ids[1]}/0", "mistyped"),
        ("drop", 1, ids[2], None),
    ]
    assert 'filters="--domain x.test --state queued --limit 9"' in shell.run("events").out


def test_of_many_ids_some_are_named(shell):
    ids = [put(shell, "b@x.test") for _ in range(25)]
    shell.run("queue", "hold", "-", stdin="\n".join(ids))
    assert steered(shell) == [("hold", 25, f"{' '.join(ids[:10])} … (25 ids)", None)]


def test_a_suspension_leaves_what_and_why_and_so_does_its_end(shell):
    shell.run("suspend", "add", "--site", "mx?.x.test", "--for", "2h", "--reason", "their move")
    shell.run("suspend", "add", "--user", "app")
    shell.run("suspend", "remove", "--all")
    assert [row[1:] for row in steered(shell)] == [
        (1, "--site 'mx?.x.test' --for 7200s", "their move"),
        (1, "--user app", "suspended by an administrator"),
        (2, "--site 'mx?.x.test' --user app", None),
    ]


def test_follow_shows_what_comes_and_ends_quietly(shell):
    refuse(shell, "before")
    command = [sys.executable, "-m", "relay", "-c", str(shell.settings), "events", "--follow", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=CLEAN) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        # Its start cannot be seen from outside, so tell it things until it shows one.
        refuser = subprocess.Popen(
            [sys.executable, "-c", REFUSE_ON, str(shell.settings)], cwd=Path(__file__).parents[2], env=CLEAN
        )
        try:
            line = following.stdout.readline()
        finally:
            refuser.kill()
            refuser.wait()
        assert b'"helo":"after"' in line
        following.send_signal(2)
        assert following.wait(30) == 130
        assert following.stderr.read() == b""


REFUSE_ON = """
import sys, time
from pathlib import Path
from relay.events.log import EventLog
from relay.smtp.reply import Reply
from relay.model.peer import Peer
from relay_config.load import load
log = EventLog(load(Path(sys.argv[1]), {}), "1", echo=False)
while True:
    log.refused(Peer("192.0.2.1", 1, "x:25", helo="after"), "RCPT", Reply(550, "5.7.1", "No"))
    time.sleep(0.1)
"""
