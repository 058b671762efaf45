"""`relay send`: into the queue as submission would, or to a server by SMTP."""

import quopri
from pathlib import Path

import dkim
import pytest

from relay.cli.exits import FailureError
from relay.cli.letter import composed, received
from relay.message.dkim.keys import load, record
from relay_queue.model import Entry, Selection
from relay_queue.sqlite import open_admin
from tests.support.certificates import authority
from tests.support.receiver import Receiver
from tests.support.shell import SETTINGS, Shell

MESSAGE = b"From: Ann <ann@example.test>\nTo: bob@x.test, Carl <carl@y.test>\nBcc: dora@z.test\nSubject: Hi\n\nHello\n"
COMPOSE = ("--from", "ann@example.test", "--to", "bob@x.test", "--subject", "Hi", "--body", "Hello")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def queued(shell: Shell) -> tuple[Entry, bytes]:
    admin = open_admin(shell.data_dir)
    try:
        [entry] = admin.select(Selection())
        return entry, b"".join(admin.body(entry.message.id))
    finally:
        admin.close()


def test_a_piped_message_is_queued_as_submission_would(shell):
    ran = shell.run("send", stdin=MESSAGE)
    assert ran.code == 0, ran.err
    entry, content = queued(shell)
    assert ran.out == f"{entry.message.id}\n"
    assert "not running" in ran.err
    assert (entry.message.sender, entry.message.origin, entry.message.user) == ("ann@example.test", "cli", None)
    assert [r.address for r in entry.recipients] == ["bob@x.test", "carl@y.test", "dora@z.test"]
    assert [r.domain for r in entry.recipients] == ["x.test", "y.test", "z.test"]
    assert entry.message.size == len(content)
    head, _, body = content.partition(b"\r\n\r\n")
    assert body == b"Hello\r\n"
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert head.startswith(b"Received: ")
    assert entry.message.id.encode() in head
    for name in (b"Date: ", b"Message-ID: "):
        assert b"\r\n" + name in head
    assert b"Bcc" not in head
    assert [r["event"] for r in shell.run("events", "--json", "--id", entry.message.id).records] == ["accepted"]


def test_the_envelope_can_be_given(shell):
    assert shell.run("send", "--from", "", "--to", "x@y.test", "--to", "Z@Y.test", stdin=MESSAGE).code == 0
    entry, _ = queued(shell)
    assert entry.message.sender == ""
    assert [(r.address, r.domain) for r in entry.recipients] == [("x@y.test", "y.test"), ("Z@Y.test", "y.test")]


def test_a_composed_message_is_signed(shell):
    assert shell.run("dkim", "generate", "example.test", "--selector", "s").code == 0
    assert shell.run("send", *COMPOSE[:4], "--subject", "Grüße", "--body", "Schöne Grüße\n.\n").code == 0
    _, content = queued(shell)
    key = load((shell.data_dir / "dkim" / "example.test.s.pem").read_bytes(), "example.test", "s")
    assert dkim.verify(content, dnsfunc=lambda _, **__: record(key).encode())
    assert b"Subject: =?utf-8?" in content
    assert b"with SMTP" in content, "nothing in it needs SMTPUTF8"


def test_a_large_message_goes_to_a_file(shell):
    body = b"0123456789" * 7 + b"\n"
    assert shell.run("send", stdin=MESSAGE + body * 10_000).code == 0
    entry, content = queued(shell)
    assert entry.message.size == len(content)
    assert content.endswith(body.replace(b"\n", b"\r\n") * 10_000)


def test_the_answer_as_json(shell):
    [answer] = shell.run("send", "--json", stdin=MESSAGE).records
    assert answer == {"id": queued(shell)[0].message.id, "answer": None}


def test_a_message_as_cron_writes_it(tmp_path):
    shell = Shell(tmp_path, SETTINGS + '[submission]\ndefault_domain = "host.test"\n')
    stdin = b"From root Sat Nov 28 07:37:12 2026\nFrom: root (Cron Daemon)\nTo: root, www-data\nMessage-ID: <>\n\nout\n"
    assert shell.run("send", stdin=stdin).code == 0
    entry, content = queued(shell)
    assert entry.message.sender == "root@host.test"
    assert [r.address for r in entry.recipients] == ["root@host.test", "www-data@host.test"]
    assert b"\r\nFrom: root@host.test (Cron Daemon)\r\nTo: root@host.test, www-data@host.test\r\n" in content
    assert content.count(b"Message-ID:") == 1
    assert shell.run("send", "--from", "root", "--to", "admin", stdin=stdin).code == 0


def test_an_address_without_a_domain_names_the_setting(shell):
    ran = shell.run("send", "--to", "b@x.test", stdin=b"From: root\n\nx\n")
    assert ran.code == 1
    assert "submission.default_domain" in ran.err


def test_long_lines_are_repaired_or_refused(tmp_path):
    text = "ü ".encode() * 100_000
    for name in ("repair", "refuse"):
        (tmp_path / name).mkdir()
    shell = Shell(tmp_path / "repair")
    assert shell.run("send", stdin=MESSAGE + text).code == 0
    _, content = queued(shell)
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert quopri.decodestring(content.partition(b"\r\n\r\n")[2]) == b"Hello\r\n" + text + b"\r\n"
    shell = Shell(tmp_path / "refuse", SETTINGS + '[submission]\nlong_lines = "refuse"\n')
    ran = shell.run("send", stdin=MESSAGE + text)
    assert (ran.code, ran.out) == (1, "")
    assert "998" in ran.err


@pytest.mark.parametrize(
    ("args", "stdin", "says"),
    [
        ((), b"", "No message"),
        ((), b"\r\n\n", "No message"),
        ((), b"Subject: x\n\nx\n", "--from"),
        ((), b"From: a@x.test\n\nx\n", "--to"),
        ((), b"From: a@x.test)b@y.test\nTo: b@x.test\n\nx\n", "From field"),
        (("--to", "b@x.test", "--from", "a@x.test"), b"Subject: x\n\nx\n", "From"),
        (("--to", "nonsense"), MESSAGE, "nonsense"),
        (("--to", "a@x.test\r\nDATA"), MESSAGE, "\\r\\n"),
        (("--from", "a b@x.test"), MESSAGE, "a b@x.test"),
        ((), MESSAGE + b"\0", "NUL"),
    ],
)
def test_what_cannot_be_sent_is_a_sentence(shell, args, stdin, says):
    ran = shell.run("send", *args, stdin=stdin)
    assert (ran.code, ran.out) == (1, "")
    assert says in ran.err
    assert shell.run("queue", "list").code == 3


@pytest.mark.parametrize(
    "args",
    [
        ("--subject", "x"),
        ("--body", "x", "--from", "a@x.test"),
        (*COMPOSE, "--user", "x"),
        (*COMPOSE, "--server", "no host:x"),
        (*COMPOSE, "--server", "127.0.0.1:1", "--user", "x"),
    ],
)
def test_wrong_usage(shell, args):
    assert shell.run("send", *args, stdin=MESSAGE).code == 2


def test_settings_limit_size_and_recipients(tmp_path):
    shell = Shell(tmp_path, SETTINGS + '[submission]\nmax_message_size = "2kB"\nmax_recipients = 2\n')
    assert "max_message_size" in shell.run("send", stdin=MESSAGE + b"x\n" * 2000).err
    assert "max_recipients" in shell.run("send", stdin=MESSAGE).err
    assert shell.run("queue", "list").code == 3


def test_fields_cannot_be_smuggled_into_a_composed_message():
    for bad in ("x\r\nBcc: e@x.test", "x\nBcc: e@x.test", "x\rBcc: e@x.test", "x\0y", "x\u2028y", "x\x85y"):
        with pytest.raises(FailureError):
            composed("a@x.test", ("b@x.test",), bad, "x")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_are_mended(end):
    letter = received(end.join([b"From: a@x.test", b"To: b@x.test", b"", b"one", b"two"]), None, ())
    assert letter.octets == b"From: a@x.test\r\nTo: b@x.test\r\n\r\none\r\ntwo\r\n"


def test_a_message_without_a_body():
    letter = received(b"From: a@x.test\nTo: b@x.test", None, ())
    assert letter.octets == b"From: a@x.test\r\nTo: b@x.test\r\n\r\n"


@pytest.fixture
def cacert(tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority().cert_pem.write_to_path(str(path))
    return str(path)


def test_to_a_server_without_a_word_of_tls(shell):
    with Receiver().in_thread() as receiver:
        ran = shell.run("send", "--server", f"127.0.0.1:{receiver.port}", stdin=MESSAGE)
    assert ran.code == 0, ran.err
    [message] = receiver.messages
    assert ran.out.strip()
    assert message.sender == "ann@example.test"
    assert [one.address for one in message.recipients] == ["bob@x.test", "carl@y.test", "dora@z.test"]
    assert message.content.endswith(b"\r\n\r\nHello\r\n")
    assert shell.run("queue", "list").code == 3, "not into the queue here"


def test_to_a_server_with_a_login(shell, cacert, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    login = ("--user", "ann", "--password-file", str(secret), "--cacert", cacert)
    with Receiver(starttls=True, users={"ann": "correct horse"}, auth_required=True).in_thread() as receiver:
        ran = shell.run("send", *COMPOSE, "--server", f"localhost:{receiver.port}", *login)
        assert ran.code == 0, ran.err
        [message] = receiver.messages
        assert message.session.user == "ann"
        assert message.tls is not None
        secret.write_text("wrong\n")
        ran = shell.run("send", *COMPOSE, "--server", f"localhost:{receiver.port}", *login)
        assert ran.code == 1
        assert "535" in ran.err
        ran = shell.run("send", *COMPOSE, "--server", f"localhost:{receiver.port}", *login[:4])
        assert ran.code == 1, "a certificate that nobody vouches for"


def test_a_login_needs_tls(shell, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    with Receiver(users={"ann": "correct horse"}).in_thread() as receiver:
        ran = shell.run(
            "send", *COMPOSE, "--server", f"127.0.0.1:{receiver.port}", "--user", "ann", "--password-file", str(secret)
        )
        assert ran.code == 1
        assert all(session.user is None for session in receiver.sessions)
        assert not any("AUTH" in command for session in receiver.sessions for command in session.commands)


def test_refusals_of_a_server_are_sentences(shell):
    with Receiver(rcpt={"bob@x.test": "550 5.1.1 no\x1b[2J", "*": "250 ok"}).in_thread() as receiver:
        server = f"127.0.0.1:{receiver.port}"
        ran = shell.run("send", *COMPOSE, "--server", server)
        assert ran.code == 1
        assert "550 5.1.1 no" in ran.err
        assert "\x1b" not in ran.err
        ran = shell.run("send", *COMPOSE, "--to", "carl@y.test", "--server", server)
        assert ran.code == 0, "the other has it"
        assert "refused <bob@x.test>" in ran.err
    ran = shell.run("send", *COMPOSE, "--server", server)
    assert ran.code == 1
    assert server in ran.err


TWICE = ["you@x.test", "you@X.TEST", '"you"@x.test', "You@x.test", "a..b@y_1.test", '"a..b"@y_1.test']
ONCE = ["you@x.test", "You@x.test", '"a..b"@y_1.test']


def test_each_recipient_is_sent_to_once(tmp_path):
    shell = Shell(tmp_path, SETTINGS + "[submission]\nmax_recipients = 3\n")
    arguments = [word for address in TWICE for word in ("--to", address)]
    assert shell.run("send", "--from", ".ann@x.test", *arguments, stdin=MESSAGE).code == 0
    entry, _ = queued(shell)
    assert [recipient.address for recipient in entry.recipients] == ONCE
    assert entry.message.sender == '".ann"@x.test'


def test_each_recipient_of_the_header_is_sent_to_once(shell):
    stdin = b"From: ann@x.test\nTo: you@x.test\nCc: you@X.TEST, You@x.test\nBcc: you@x.test\n\nHello\n"
    assert shell.run("send", stdin=stdin).code == 0
    entry, _ = queued(shell)
    assert [recipient.address for recipient in entry.recipients] == ["you@x.test", "You@x.test"]


def test_a_composed_message_names_each_recipient_once():
    letter = composed("a..b@x.test", tuple(TWICE), "x", "x")
    assert (letter.sender, list(letter.recipients)) == ('"a..b"@x.test', ONCE)
    head = letter.octets.replace(b"\r\n ", b" ")
    assert b'From: "a..b"@x.test\r\n' in head
    assert b'To: you@x.test, You@x.test, "a..b"@y_1.test\r\n' in head


def test_a_message_names_its_stream(shell):
    assert shell.run("send", "--stream", "bulk", stdin=MESSAGE).code == 0
    entry, content = queued(shell)
    assert entry.message.stream == "bulk"
    assert b"X-Relay-Stream" not in content
    shown = shell.run("queue", "show", entry.message.id)
    assert "Stream:     bulk" in shown.out
    assert '"stream":"bulk"' in shell.run("queue", "show", "--json", entry.message.id).out


@pytest.mark.parametrize("name", ["newsletter", ""])
def test_a_stream_that_is_not_in_the_settings_is_refused(shell, name):
    ran = shell.run("send", "--stream", name, *COMPOSE)
    assert ran.code == 1
    assert f"There is no stream '{name}'" in ran.err
    assert "bulk, transactional" in ran.err


@pytest.mark.parametrize("name", ["a b", "a\r\nBcc: c@x.test", "bülk"])
def test_a_name_that_no_stream_can_have(shell, name):
    ran = shell.run("send", "--stream", name, *COMPOSE)
    assert ran.code == 2
    assert "cannot be the name of a stream" in ran.err


def test_an_mbox_message_with_a_stream(tmp_path):
    shell = Shell(tmp_path, SETTINGS + '[submission]\ndefault_domain = "example.test"\n')
    mbox = b"From ann Sat Nov 28 07:37:12 2026\n" + MESSAGE
    ran = shell.run("send", "--stream", "bulk", stdin=mbox)
    assert ran.code == 0, ran.err
    entry, content = queued(shell)
    assert entry.message.stream == "bulk"
    assert b"From ann Sat" not in content
