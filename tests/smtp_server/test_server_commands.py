"""Commands, their order, arguments and parameters: what each bad input gets."""

import pytest

from relay.smtp.reply import Reply
from relay.smtp.server.engine import Engine
from tests.support.raw_smtp import listening
from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("NOOP", 250),
        ("noop anything at all", 250),
        ("NoOp ünï", 250),
        ("RSET", 250),
        ("RSET now", 501),
        ("VRFY user", 252),
        ("VRFY", 252),
        ("EXPN list", 502),
        ("HELP", 214),
        ("HELP MAIL", 214),
        ("QUIT", 221),
        ("QUIT now", 501),
        ("EHLO c.test", 250),
        ("EHLO [192.0.2.1]", 250),
        ("EHLO c.test ", 250),
        ("EHLO", 501),
        ("EHLO ", 501),
        ("EHLO a b", 501),
        ("EHLO a\x1bb", 501),
        ("EHLO a\tb", 501),
        ("EHLO a\x00b", 501),
        ("HELO a\x7fb", 501),
        ("EHLO a\x85b", 501),
        ("EHLO a\u202eb", 501),
        ("EHLO é.test", 501),
        ("EHLO " + "a" * 256, 501),
        ("HELO c.test", 250),
        ("HELO", 501),
        ("RCPT TO:<a@b.test>", 503),
        ("DATA", 503),
        ("STARTTLS", 502),
        ("AUTH PLAIN", 503),
        ("XCLIENT ADDR=127.0.0.1", 500),
        ("XFORWARD ADDR=127.0.0.1", 500),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2", 500),
        ("TURN", 500),
        ("ETRN x", 500),
        ("SEND FROM:<a@b.test>", 500),
        ("", 500),
        (" NOOP", 500),
        ("MAIL", 501),
        ("MAIL FROM", 501),
        ("MAIL FROM:", 501),
        ("MAIL TO:<a@b.test>", 501),
        ("MAIL FROM:a@b.test", 501),
        ("MAIL FROM:<a@b.test", 501),
        ("MAIL FROM:<postmaster>", 501),
        ("MAIL FROM:<a@b.test>", 250),
        ("mail from:<a@b.test>", 250),
        ("MAIL FROM: <a@b.test>", 250),
        ("MAIL FROM:<>", 250),
        ("MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME", 250),
        ("MAIL FROM:<a@b.test> FOO=1", 555),
        ("MAIL FROM:<a@b.test> SIZE=1 SIZE=2", 501),
        ("MAIL FROM:<a@b.test> BODY=BINARYMIME", 501),
        ("MAIL FROM:<a@b.test> SIZE=99999999999", 552),
        ("MAIL FROM:<a@b.test> SIZE=52428801", 552),
        ("MAIL FROM:<a@b.test> SIZE=52428800", 250),
        ("MAIL FROM:<a@b.test> SIZE=٣", 501),
        ("MAIL FROM:<ä@b.test>", 553),
        ("MAIL FROM:<a@bücher.test>", 553),
        ("MAIL FROM:<ä@b.test> SMTPUTF8", 250),
        ("MAIL FROM:<a@xn---.test>", 501),
        ("MAIL FROM:<a\u2028b@b.test> SMTPUTF8", 500),
        # Words that only become commands or keywords in upper case.
        ("\u017fTARTTLS", 500),
        ("R\u017fET", 500),
        ("QU\u0131T", 500),
        ("ma\u0131l FROM:<a@b.test>", 500),
        ("MAIL FROM:<a@b.test> \u017fIZE=1", 555),
        ("MAIL FROM:<a@b.test> BODY=8B\u0131TMIME", 501),
        # Blanks that are no spaces.
        ("MAIL FROM:<a@b.test>\u00a0SIZE=1", 501),
        ("MAIL FROM:<a@b.test> SIZE=1\u3000BODY=7BIT", 501),
    ],
)
async def test_after_ehlo(line, code):
    d = Dialog().hello()
    assert d.code(line) == code


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("RCPT TO:<a@b.test>", 250),
        ("rcpt to:<a@b.test> notify=never", 250),
        ("RCPT TO:<Postmaster>", 250),
        ("RCPT TO:<>", 501),
        ("RCPT TO:", 501),
        ("RCPT FROM:<a@b.test>", 501),
        ("RCPT TO:<a>", 501),
        ("RCPT TO:<ä@b.test>", 553),
        ("RCPT TO:<a@b.test> NOTIFY=NEVER,SUCCESS", 501),
        ("RCPT TO:<a@b.test> ORCPT=x", 501),
        ("RCPT TO:<a@b.test> FOO", 555),
        ("MAIL FROM:<t@ext.test>", 503),
        ("AUTH PLAIN", 503),
        ("DATA", 503),
        ("DATA now", 501),
    ],
)
async def test_after_mail(line, code):
    d = Dialog().hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    assert d.code(line) == code


@pytest.mark.parametrize(
    "octets",
    [
        b"MAIL FROM:<a\xff@b.test> SMTPUTF8\r\n",
        b"MAIL FROM:<\xc0\xae@b.test> SMTPUTF8\r\n",
        b"MAIL FROM:<\xed\xa0\x80@b.test> SMTPUTF8\r\n",
        b'MAIL FROM:<"a\\\rb"@ext.test>\r\n',
        b"MAIL FROM:<a\0@ext.test>\r\n",
        b"MAIL FROM:<a@ext.test\0>\r\n",
        b"MAIL FROM:<a@ext.test>\x0b\r\n",
        b"EHLO \xff\r\n",
        b"\xff\xfe\r\n",
        b"NOOP \x1b[31m\r\n",
    ],
)
async def test_octets_that_no_command_may_hold(octets):
    d = Dialog().hello()
    assert d.code(octets) in {500, 501}
    assert d.code("NOOP") == 250
    assert d.session.transaction is None


async def test_mail_needs_a_greeting():
    d = Dialog()
    assert d.say("MAIL FROM:<a@b.test>").startswith("503 5.5.1 ")


async def test_helo_has_no_extensions():
    d = Dialog()
    assert d.say("HELO c.test") == "250 mx.test"
    assert d.code("MAIL FROM:<a@b.test> SIZE=1") == 555
    assert d.code("MAIL FROM:<a@b.test>") == 250
    assert d.code("RCPT TO:<a@b.test> NOTIFY=NEVER") == 555
    assert d.code("RCPT TO:<a@b.test>") == 250
    assert d.peer.extended is False


async def test_ehlo_and_rset_forget_the_transaction():
    for word in ("RSET", "EHLO c.test", "HELO c.test"):
        d = Dialog().envelope()
        assert d.code(word) == 250
        assert d.code("DATA") == 503
        assert d.code("MAIL FROM:<a@b.test>") == 250


async def test_postmaster_belongs_to_this_host():
    d = Dialog().hello()
    assert d.codes("MAIL FROM:<s@ext.test>\r\nRCPT TO:<POSTMASTER>") == [250, 250]
    (recipient,) = d.session.transaction.recipients
    assert (recipient.address, recipient.domain) == ("POSTMASTER@mx.test", "mx.test")


async def test_policy_is_asked_and_its_word_passed_on():
    seen = []

    def mail(transaction):
        seen.append(transaction.sender)
        return Reply(550, "5.7.1", "not you") if transaction.sender == "bad@ext.test" else None

    def rcpt(recipient):
        seen.append(recipient.address)
        return Reply(550, "5.7.1", "not there") if recipient.domain == "ext.test" else None

    handler = RememberingHandler(mail_reply=mail, rcpt_reply=rcpt)
    d = Dialog(handler).hello()
    assert d.say("MAIL FROM:<bad@ext.test>") == "550 5.7.1 not you"
    assert d.code("RCPT TO:<a@local.test>") == 503
    assert d.code("MAIL FROM:<good@ext.test>") == 250
    assert d.say("RCPT TO:<x@ext.test>") == "550 5.7.1 not there"
    assert d.code("DATA") == 503
    assert d.code("RCPT TO:<a@local.test>") == 250
    assert d.code("DATA") == 354
    assert d.code(b"\r\nx\r\n.\r\n") == 250
    assert seen == ["bad@ext.test", "good@ext.test", "x@ext.test", "a@local.test"]
    assert [command for command, _ in handler.refusals] == [
        "MAIL FROM:<bad@ext.test>",
        "RCPT TO:<a@local.test>",
        "RCPT TO:<x@ext.test>",
        "DATA",
    ]


async def test_incoming_may_be_refused():
    handler = RememberingHandler(incoming_reply=Reply(452, "4.3.1", "disk"))
    d = Dialog(handler).envelope()
    assert d.say("DATA") == "452 4.3.1 disk"
    assert d.code("NOOP") == 250


async def test_a_refused_message_ends_its_transaction():
    d = Dialog(RememberingHandler(accept_reply=Reply(554, "5.6.0", "no From"))).data()
    assert d.say(b"x\r\n.\r\n") == "554 5.6.0 no From"
    assert d.code("MAIL FROM:<a@b.test>") == 250


async def test_an_empty_message_is_a_message():
    d = Dialog().data()
    assert d.code(b".\r\n") == 250
    assert d.handler.messages[0].octets == b"\r\n"


async def test_every_reply_but_a_few_carries_an_enhanced_code():
    d = Dialog(auth="optional")
    for line in ("NOOP", "FOO", "MAIL", "EHLO", "RSET", "VRFY x", "EXPN x", "HELP", "STARTTLS", "DATA", "RCPT TO:<a>"):
        for reply in d.say(line).split("\r\n"):
            assert reply[3] in " -"
            assert reply[4] == reply[0], reply
            assert reply[4:].split(" ")[0].count(".") == 2, reply


@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\nEHLO x\r\nMAIL FROM:<a@e.test>\r\nRCPT TO:<b@local.test>\r\nDATA\r\nx\r\n.\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)),
        bytes(range(255, -1, -1)),
        b"abc" + bytes(range(128, 256)) * 2,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"Host: mx.test\r\n",
        b"SSH-2.0-x\x00\r\n",
    ],
    ids=["get", "post", "tls", "binary", "late-binary", "http2", "header", "ssh"],
)
async def test_other_protocols_are_shown_the_door_at_the_first_line(octets):
    async with listening() as server:
        client = await server.connect()
        client.send(octets)
        assert (await client.rest()).startswith("421 4.7.0 ")
        assert not server.handler.messages


async def test_http_is_shown_the_door_later_too():
    d = Dialog().hello()
    assert d.code("GET / HTTP/1.0") == 421
    assert d.closed


@pytest.mark.parametrize(
    ("last", "codes"), [(b"QUIT\r\n", ["250", "221"]), (b"NOOP\r\n", ["250", "250"]), (b"", ["250"])]
)
async def test_a_half_closed_client_gets_its_replies(last, codes):
    async with listening(RememberingHandler(manual=True)) as server:
        client = await server.connect()
        await client.envelope()
        client.send(b"A: b\r\n\r\nx\r\n.\r\n" + last)
        client.writer.write_eof()
        while not server.handler.pending:
            await client.writer.drain()
            other = await server.connect()
            await other.code("NOOP")
        server.handler.pending[0].set_result(Reply(250, "2.0.0", "Queued"))
        assert [line[:3] for line in (await client.rest()).splitlines()] == codes


async def test_a_message_that_came_whole_is_taken_though_its_client_has_gone():
    async with listening() as server:
        client = await server.connect()
        await client.envelope()
        (protocol,) = server.server.context.connections.open
        protocol.data_received(b"A: b\r\n\r\nx\r\n.\r\n")
        protocol.connection_lost(ConnectionResetError())
        assert [message.octets for message in server.handler.messages] == [b"A: b\r\n\r\nx\r\n"]
        protocol.abort()


async def test_a_fault_in_the_last_turn_leaves_no_connection_counted(monkeypatch):
    async with listening() as server:
        await server.connect()
        connections = server.server.context.connections
        (protocol,) = connections.open
        monkeypatch.setattr(Engine, "pump", lambda _: 1 // 0)
        protocol.data_received(b"NOOP\r\n")
        with pytest.raises(ZeroDivisionError):
            protocol.connection_lost(None)
        assert not connections.open


async def test_a_client_that_closes_at_once_gets_its_replies():
    async with listening() as server:
        client = await server.connect()
        client.send(b"EHLO c.test\r\nNOOP\r\n")
        client.writer.write_eof()
        assert (await client.rest()).splitlines()[-1].startswith("250 2.0.0 ")


@pytest.mark.parametrize("line", ["MAIL FROM:a@b.test", "MAIL FROM: a@b.test size=10"])
async def test_addresses_without_brackets_are_for_our_own_clients(line: str):
    assert Dialog().hello().code(line) == 501
    assert Dialog(RememberingHandler(trusted=True)).hello().code(line) == 250
    d = Dialog(auth="optional").hello()
    assert d.code("AUTH PLAIN AHVzZXIAcGFzcw==") == 235
    assert d.code(line) == 250
    assert d.code(line.replace("MAIL FROM", "RCPT TO").replace(" size=10", "")) == 250
    assert d.code("DATA") == 354
    assert d.code(b"x\r\n.\r\n") == 250
    (taken,) = d.handler.messages
    assert (taken.transaction.sender, taken.recipients) == ("a@b.test", ["a@b.test"])


def test_a_recipient_that_is_named_twice_is_one_recipient():
    d = Dialog().hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    for line in (
        "<a@b.test>",
        "<a@B.TEST> NOTIFY=NEVER",
        '<"a"@b.test>',
        "<A@b.test>",
        "<postmaster>",
        "<postmaster@MX.test>",
    ):
        assert d.say(f"RCPT TO:{line}") == "250 2.1.5 Recipient OK"
    assert d.code("RCPT TO:<a@b.test> FOO=1") == 555
    transaction = d.session.transaction
    assert transaction is not None
    assert [path.address for path in transaction.recipients] == ["a@b.test", "A@b.test", "postmaster@mx.test"]
    assert transaction.recipients[0].notify is None, "that of the first RCPT"
    assert d.codes("RSET\r\nMAIL FROM:<s@ext.test>\r\nRCPT TO:<a@b.test>") == [250, 250, 250]
    assert d.session.transaction is not None
    assert len(d.session.transaction.recipients) == 1


def test_repetitions_take_nobody_s_place_and_come_to_an_end():
    d = Dialog(max_recipients=3).hello()
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    same = "RCPT TO:<a@b.test>"
    assert [d.code(same) for _ in range(4)] == [250] * 4
    assert d.codes("RCPT TO:<c@b.test>\r\nRCPT TO:<d@b.test>\r\nRCPT TO:<e@b.test>") == [250, 250, 452]
    assert d.code(same) == 452
    assert d.code("DATA") == 354


def test_the_handler_is_not_asked_twice_about_a_recipient():
    asked: list[str] = []
    d = Dialog(RememberingHandler(rcpt_reply=lambda path: asked.append(path.address))).hello()
    assert d.codes("MAIL FROM:<s@ext.test>\r\nRCPT TO:<a@b.test>\r\nRCPT TO:<a@b.test>") == [250] * 3
    assert asked == ["a@b.test"]


def test_addresses_without_a_domain_are_completed_for_clients_of_ours():
    def dialog(domain, *, trusted):
        one = Dialog(default_domain=domain)
        one.peer.trusted = trusted
        return one.hello()

    ours = dialog("d.example", trusted=True)
    assert ours.codes("MAIL FROM:<root>\r\nRCPT TO:<www-data>\r\nRCPT TO:<first.last> NOTIFY=NEVER") == [250] * 3
    transaction = ours.session.transaction
    assert (transaction.sender, transaction.sender_domain) == ("root@d.example", "d.example")
    assert [(one.address, one.domain, one.notify) for one in transaction.recipients] == [
        ("www-data@d.example", "d.example", None),
        ("first.last@d.example", "d.example", "NEVER"),
    ]
    assert ours.codes("RSET\r\nMAIL FROM:<postmaster> SIZE=10\r\nRCPT TO:<postmaster>\r\nRCPT TO:<a..b>") == [
        *(250, 250, 250),
        250,
    ]
    assert ours.session.transaction.recipients[-1].address == '"a..b"@d.example'
    assert ours.session.transaction.sender == "postmaster@d.example"
    assert ours.session.transaction.recipients[0].address == "postmaster@mx.test", "RFC 5321 section 4.5.1"
    assert ours.codes("RSET\r\nMAIL FROM:<>\r\nRCPT TO:<>") == [250, 250, 501]

    unset = dialog(None, trusted=True)
    assert "submission.default_domain" in unset.say("MAIL FROM:<root>")
    assert unset.code("MAIL FROM:<a@b.test>") == 250
    assert "submission.default_domain" in unset.say("RCPT TO:<root>")

    stranger = dialog("d.example", trusted=False)
    reply = stranger.say("MAIL FROM:<root>")
    assert reply.startswith("501 5.1.7 ")
    assert "submission" not in reply
    assert stranger.code("MAIL FROM:<a@b.test>") == 250
    assert stranger.say("RCPT TO:<root>").startswith("501 5.1.3 ")


def test_long_paths_stay_bounded_with_the_default_domain():
    ours = Dialog(default_domain="d.example")
    ours.peer.trusted = True
    ours.hello()
    assert ours.code(f"MAIL FROM:<{'a' * 1000}>") == 501
