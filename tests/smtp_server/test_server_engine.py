"""Whole dialogs on the engine, one octet at a time and cut at every place: the replies must be the same."""

import asyncio

import pytest

from relay.model.peer import Identity
from relay.smtp.reply import Reply
from relay.smtp.server.connections import Connections
from relay.smtp.server.context import ServerContext
from relay_config.schema import Listener, Settings
from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog

DIALOGS = {
    "data": (
        b'EHLO c.test\r\nMAIL FROM:<s@ext.test> SIZE=30\r\nRCPT TO:<a@local.test>\r\nRCPT TO:<"b c"@local.test>\r\n',
        b"DATA\r\n",
        b"Subject: x\r\n\r\n..dot\r\n.\r\nNOOP\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n",
    ),
    "bdat": (
        b"EHLO c.test\r\nMAIL FROM:<s@ext.test>\r\nRCPT TO:<a@local.test>\r\n",
        b"BDAT 12\r\nSubject: x\r\nBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\n.\r\n.\r\nVRFY x\r\nBDAT 0 LAST\r\nQUIT\r\n",
    ),
    "auth": (b"EHLO c.test\r\nAUTH LOGIN\r\ndXNlcg==\r\ncGFzcw==\r\nAUTH PLAIN AHVzZXIAcGFzcw==\r\nNOOP\r\nQUIT\r\n",),
    "wrong": (
        b"EHLO c.test\r\nMAIL FROM:<a@b\nRCPT TO:<x@y.test>\r\nFOO\r\nRCPT TO:<x@y.test>\r\nDATA\r\n",
        b"HELP\r\nQUIT\r\n",
    ),
}


def dialog() -> Dialog:
    return Dialog(auth="optional")


def run(groups: tuple[bytes, ...], blocks) -> tuple[bytes, list]:
    d = dialog()
    d.replies = b""
    for group in groups:
        for block in blocks(group):
            d.feed(block)
    return d.replies, [(m.octets, m.recipients) for m in d.handler.messages]


@pytest.mark.parametrize("name", DIALOGS)
async def test_every_cut_gives_the_same_replies(name):
    groups = DIALOGS[name]
    expected = run(groups, lambda group: [group])
    assert expected[0]
    assert run(groups, lambda group: [group[i : i + 1] for i in range(len(group))]) == expected
    for at in range(1, max(len(group) for group in groups)):
        assert run(groups, lambda group, at=at: [b for b in (group[:at], group[at:]) if b]) == expected, at


async def test_replies_of_the_data_dialog():
    replies, messages = run(DIALOGS["data"], lambda group: [group])
    lines = replies.decode().split("\r\n")
    assert [line[:9] for line in lines if line[3:4] == " "] == [
        "250 LIMIT",
        "250 2.1.0",
        "250 2.1.5",
        "250 2.1.5",
        "354 End t",
        "250 2.0.0",
        "250 2.0.0",
        "250 2.1.0",
        "250 2.0.0",
        "221 2.0.0",
    ]
    assert messages == [(b"Subject: x\r\n\r\n.dot\r\n", ["a@local.test", '"b c"@local.test'])]


async def test_replies_of_the_bdat_dialog():
    replies, messages = run(DIALOGS["bdat"], lambda group: [group])
    codes = [line[:3] for line in replies.decode().split("\r\n") if line[3:4] == " "]
    assert codes == ["250", "250", "250", "250", "250", "250", "252", "503", "221"]
    assert messages == [(b"Subject: x\r\nRSET\r\n.\r\n.\r\n\r\n", ["a@local.test"])]


async def test_pipelined_commands_wait_for_the_verdict():
    handler = RememberingHandler(manual=True)
    d = Dialog(handler).data()
    assert d.say(b"A: b\r\n\r\nx\r\n.\r\nMAIL FROM:<t@ext.test>\r\nRCPT TO:<a@local.test>\r\n") == ""
    assert d.say(b"NOOP\r\n") == ""
    (pending,) = handler.pending
    pending.set_result(Reply(250, "2.0.0", "Queued as late"))
    woken = []
    d.session.wake = lambda: woken.append(True)
    await asyncio.sleep(0)
    assert woken
    d.replies = b""
    d.collect()
    d.feed(b"")
    assert [line[:3] for line in d.replies.decode().splitlines()] == ["250", "250", "250", "250"]
    assert d.replies.startswith(b"250 2.0.0 Queued as late\r\n250 2.1.0")


async def test_a_failed_verdict_is_temporary_and_says_nothing(caplog):
    d = Dialog(RememberingHandler(accept_reply=RuntimeError("secret detail"))).data()
    reply = d.say(b"A: b\r\n\r\nx\r\n.\r\n")
    assert reply.startswith("451 4.3.0 ")
    assert "secret" not in reply
    assert "secret detail" in caplog.text
    assert d.code("NOOP") == 250


async def test_an_error_in_policy_is_temporary_and_the_session_goes_on(caplog):
    def broken(_):
        raise ValueError("secret detail")

    handler = RememberingHandler(rcpt_reply=broken)
    d = Dialog(handler).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    assert d.say("RCPT TO:<a@local.test>").startswith("451 4.3.0 ")
    assert "secret detail" in caplog.text
    handler.rcpt_reply = lambda _: None
    assert d.code("RCPT TO:<a@local.test>") == 250


async def test_refusals_of_the_handler_are_passed_on_without_controls():
    handler = RememberingHandler(rcpt_reply=lambda _: Reply(550, "5.7.1", "no\r\n250 2.1.5 \x1b[31mé"))
    d = Dialog(handler).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    d.replies = b""
    d.feed(b"RCPT TO:<a@local.test>\r\n")
    assert d.replies == b"550-5.7.1 no?\r\n550 5.7.1 250 2.1.5 ?[31m?\r\n"
    assert handler.refusals[-1][0] == "RCPT TO:<a@local.test>"


async def test_a_421_of_the_handler_ends_the_session():
    d = Dialog(RememberingHandler(mail_reply=lambda _: Reply(421, "4.7.0", "Go away"))).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 421
    assert d.closed
    assert d.say("NOOP") == ""


async def test_draining_waits_for_the_transaction():
    d = Dialog().envelope()
    d.engine.drain()
    assert not d.closed
    assert d.code("DATA") == 354
    assert d.codes(b"A: b\r\n\r\nx\r\n.\r\n") == [250, 421]
    assert d.closed
    assert len(d.handler.messages) == 1


async def test_draining_an_idle_session_ends_it_at_once():
    d = Dialog().hello()
    d.engine.drain()
    d.collect()
    assert d.closed
    assert b"421 4.3.2" in d.replies


async def test_auth_gives_the_peer_its_identity():
    d = Dialog(auth="optional").hello()
    assert d.code("AUTH PLAIN AHVzZXIAcGFzcw==") == 235
    assert d.peer.identity == Identity("user", ("*",))


async def test_a_broken_off_message_is_let_go():
    handler = RememberingHandler(spill_at=10)
    d = Dialog(handler).data()
    d.feed(b"A: b\r\n\r\n" + b"x" * 500 + b"\r\n")
    assert handler.contents[0].file is not None
    d.session.close()
    assert handler.discarded == 1
    assert handler.contents[0].file is None


async def test_a_disk_that_refuses_is_temporary():
    def full():
        raise OSError(28, "No space left on device")

    d = Dialog(RememberingHandler(spill_at=10, new_file=full)).data()
    assert d.code(b"A: b\r\n\r\n" + b"x" * 500 + b"\r\n.\r\n") == 452
    assert d.say("NOOP").startswith("250")


async def test_a_long_header_is_refused():
    d = Dialog(RememberingHandler(header_limit=1000)).data()
    assert d.say(b"A: b\r\n" * 300 + b"\r\nx\r\n.\r\n").startswith("552 5.3.4")
    assert d.code("NOOP") == 250


async def test_an_error_after_the_verdict_ends_the_session_in_order(caplog):
    handler = RememberingHandler(manual=True)
    d = Dialog(handler).data()
    d.feed(b"A: b\r\n\r\nx\r\n.\r\n")
    handler.pending[0].set_result("not a reply")
    await asyncio.sleep(0)
    d.replies = b""
    d.collect()
    assert d.replies.startswith(b"421 4.3.0 ")
    assert d.closed
    assert "internal error" in caplog.text


def test_a_context_from_settings():
    listener = Listener(address="127.0.0.1:25", tls="none", auth="off")
    settings = Settings(hostname="MX.test", listener=(listener,))
    context = ServerContext.from_settings(settings, listener, RememberingHandler(), None, Connections())
    assert context.greeting == b"220 MX.test ESMTP relay\r\n"
    assert context.limits is settings.limits
    assert context.max_message_size == settings.submission.max_message_size
    assert context.max_recipients == settings.submission.max_recipients
