"""Whatever strangers wrote, no command steers the terminal that shows it: not in tables, lines, JSON or errors."""

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from relay.events.log import EventLog
from relay.model.peer import Peer
from relay.sandbox.store import Envelope, SandboxStore
from relay.smtp.reply import Reply
from relay_config.load import load
from relay_queue.ids import new_id
from relay_queue.model import Selection
from relay_queue.protocol import Action
from relay_queue.sqlite import open_admin
from tests.support.mail import message_put
from tests.support.running import CLEAN
from tests.support.shell import SETTINGS, Shell, run

EVIL = "\x1b[2J\x1b]0;x\x07\u202e\u2066\x9b31m\x7f\u2028\r\nX"
SANDBOX = SETTINGS + '[sandbox]\nreceiver = "127.0.0.1:2599"\n'
COMMANDS = (
    ("queue", "list"),
    ("queue", "list", "--ids"),
    ("queue", "summary"),
    ("queue", "show", "{waiting}"),
    ("queue", "show", "{ended}"),
    ("queue", "hold", "--all", "--dry-run"),
    ("queue", "list", "--sender", EVIL),
    ("queue", "show", EVIL),
    ("queue", "cat", EVIL),
    ("queue", "hold", EVIL),
    ("suspend", "list"),
    ("suspend", "add", "--site", EVIL, "--reason", EVIL),
    ("suspend", "add", "--domain", EVIL),
    ("suspend", "remove", "--site", EVIL),
    ("events",),
    ("events", "--id", EVIL),
    ("sandbox", "list"),
    ("sandbox", "list", "--recipient", EVIL),
    ("sandbox", "show", "{kept}"),
    ("sandbox", "show", EVIL),
    ("user", "list"),
    ("user", "remove", EVIL),
    ("user", "add", EVIL, "--sender", "*"),
    ("user", "add", "x", "--sender", EVIL),
    ("dkim", "dns", EVIL),
    ("check",),
)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, SANDBOX)


@pytest.fixture
def names(shell: Shell) -> dict[str, str]:
    """Evil everywhere; the ids of what is there."""
    admin = open_admin(shell.data_dir)
    hostile = {"reply": f"550 {EVIL}", "lane": f"mx{EVIL}"}
    waiting, ended = (
        message_put(f"b{EVIL}@x{EVIL}", "c@x.test", sender=f"a{EVIL}@x.test", user=f"u{EVIL}", recipient=hostile)
        for _ in range(2)
    )
    for put in (waiting, ended):
        admin.put(put)
    admin.steer(Action.DROP, Selection(ids=(ended.entry.message.id,)), now=time.time(), reason=f"why {EVIL}")
    admin.suspend("site", f"s{EVIL}", f"reason {EVIL}", None, time.time())
    admin.close()
    (shell.data_dir / "events").mkdir(mode=0o700, exist_ok=True)
    log = EventLog(load(shell.settings, {}), "0", echo=False)
    log.refused(Peer("192.0.2.1", 1, "x:25", helo=EVIL), f"RCPT {EVIL}", Reply(550, "5.7.1", EVIL))
    log.close()
    (shell.data_dir / "run").mkdir(mode=0o700, exist_ok=True)
    (shell.data_dir / "run" / "queue-failed-0").write_text(EVIL)
    store = SandboxStore(shell.data_dir / "sandbox")
    store.prepare()
    envelope = Envelope(
        id=new_id(), received_at=time.time(), sender=EVIL, recipients=(EVIL,), size=1, subject=EVIL, helo=EVIL, tls=EVIL
    )
    store.add(envelope, [f"Subject: {EVIL}\r\n\r\n{EVIL}\r\n".encode()])
    return {"waiting": waiting.entry.message.id, "ended": ended.entry.message.id, "kept": envelope.id}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("terminal", [True, False])
def test_no_command_shows_what_could_steer_a_terminal(shell, names, monkeypatch, command, terminal):
    if command == ("sandbox", "show", "{kept}"):
        terminal = True  # a pipe gets the message octet by octet
    monkeypatch.setattr("relay.cli.output.in_terminal", lambda: terminal)
    if terminal:
        monkeypatch.setenv("TERM", "dumb")  # rich's own sequences would hide others
    for more in ((), ("--json",)):
        ran = shell.run(*(word.format(**names) if word is not EVIL else word for word in command), *more)
        for line in (ran.out + ran.err).replace("\t", " ").split("\n"):
            assert line.isprintable(), (more, line)


def test_no_error_shows_what_could_steer_a_terminal(tmp_path):
    settings = tmp_path / EVIL.replace("\r\n", "")
    for text in (None, f'x = 1\n"{EVIL[:4]}', 'nonsense = 1\nhostname = "a.test"\n'):
        if text is not None:
            settings.write_text(text)
        for command in (("queue", "list"), ("check",), ("serve",)):
            ran = run("-c", str(settings), *command)
            assert ran.code == 1
            for line in (ran.out + ran.err).split("\n"):
                assert line.isprintable(), (command, line)


def test_a_message_in_a_real_terminal(shell, names):
    def shown(*options: str) -> bytes:
        ours, theirs = pty.openpty()
        try:
            command = [sys.executable, "-m", "relay", "-c", str(shell.settings), "sandbox", "show", *options]
            subprocess.run(
                [*command, names["kept"]], stdout=theirs, stderr=subprocess.DEVNULL, env=CLEAN, timeout=60, check=True
            )
            return os.read(ours, 1 << 16)
        finally:
            os.close(ours)
            os.close(theirs)

    assert b"\x1b" not in shown()
    assert b"\\x1b[2J" in shown()
    assert b"\x1b[2J" in shown("--raw")
