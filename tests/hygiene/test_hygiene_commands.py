"""Commands and parameters against the whole relay: each bad one gets one refusal, and the session is none the worse."""

import pytest

from tests.support.whole import Whole, secure

HTTP = (
    b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@e.test>\r\nRCPT TO:<b@rcpt.test>\r\nDATA\r\nx\r\n.\r\n"
)
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))


@pytest.mark.parametrize("listener", ["open", "submit"])
@pytest.mark.parametrize(
    ("octets", "codes"),
    [
        (b"MAIL FROM:<a@ext.test>\nRCPT TO:<b@rcpt.test>\r\n", {500, 501}),
        (b"MAIL FROM:<a@ext.test>\rRCPT TO:<b@rcpt.test>\r\n", {500, 501}),
        (b"MAIL FROM:<a@ext.test\0>\r\n", {500, 501}),
        (b"MAIL FROM:<a\rb@ext.test>\r\n", {500, 501}),
        (b'MAIL FROM:<"a\\\rb"@ext.test>\r\n', {500, 501}),
        (b'MAIL FROM:<"a\\\nb"@ext.test>\r\n', {500, 501}),
        (b"MAIL FROM:<a@ext.test> FOO=BAR\r\n", {555}),
        (b"MAIL FROM:<a@ext.test> SIZE=1 SIZE=2\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> BODY=7BIT BODY=7BIT\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> SIZE=99999999999\r\n", {552}),
        (b"MAIL FROM:<a@ext.test> SIZE=-1\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> SIZE=x\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> SIZE=\xd9\xa3\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> SIZE=1e3\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> BODY=FOO\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> BODY=BINARYMIME\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> RET=ALL\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> ENVID=a+zz\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> ENVID=a+0D+0Ab\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> AUTH=a+zz\r\n", {501}),
        ("MAIL FROM:<ä@ext.test>\r\n".encode(), {553}),
        (b"MAIL FROM:<a\xff@ext.test> SMTPUTF8\r\n", {501}),
        (b"MAIL FROM:<\xc0\xae@ext.test> SMTPUTF8\r\n", {501}),
        (b"MAIL FROM:<a@xn---.test>\r\n", {501}),
        (b"MAIL FROM:<a@" + b"x" * 64 + b".test>\r\n", {501, 553}),
        (b"MAIL FROM:<" + b"x" * 246 + b"@ext.test>\r\n", {501, 553}),
        (b"MAIL FROM:<a@" + b"x.test." * 40 + b"test>\r\n", {501, 553}),
        (b"MAIL FROM:<a@ext.test\r\n", {501}),
        (b"MAIL FROM: a@ext.test>\r\n", {501}),
        (b"MAIL FROM: @local.test:a@ext.test\r\n", {501}),
        (b"MAIL FROM:a@local.test@ext.test\r\n", {501}),
        (b"MAIL FROM:a\0@ext.test\r\n", {500, 501}),
        (b'MAIL FROM:"a\\\rb"@ext.test\r\n', {500, 501}),
        (b"MAIL FROM:a@ext.test SIZE=x\r\n", {501}),
        (b"MAIL FROM:a@ext.test b@ext.test\r\n", {555}),
        (b"MAIL FROM:a(x)@ext.test\r\n", {501}),
        (b"MAIL FROM:A Name <a@ext.test>\r\n", {501}),
        (b"MAIL FROM:\r\n", {501}),
        (b"MAIL FROM:<;sleep 66;@ext.test>\r\n", {501}),
        (b"MAIL FROM:<$(id)@ext.test>\r\n", {501}),
        (b"MAIL FROM:<../../x@ext.test>\r\n", {501, 250}),
        ("MAIL FROM:<a@ext.test> \u017fIZE=1\r\n".encode(), {555}),
        ("MAIL FROM:<a@ext.test> SIZE=1\u3000BODY=7BIT\r\n".encode(), {501}),
        ("ma\u0131l FROM:<a@ext.test>\r\n".encode(), {500}),
        ("\u017fTARTTLS\r\n".encode(), {500}),
        (b"MAIL FROM:<a@ext.test> SIZE=1\rRCPT TO:<b@rcpt.test>\r\n", {500, 501}),
        (b"MAIL FROM:<a@ext.test> SIZE=1\nRCPT TO:<b@rcpt.test>\r\n", {500, 501}),
        (b"MAIL FROM:<a@ext.test> " + b" ".join(b"X%d=1" % n for n in range(280)) + b"\r\n", {555}),
        (b"MAIL FROM:<a@ext.test> " + b"SIZE=1 " * 250 + b"\r\n", {501}),
        (b"MAIL FROM:<a@ext.test> SMTPUTF8=1\r\n", {501}),
        (b"MAIL FROM:<\xed\xa0\x80@ext.test> SMTPUTF8\r\n", {501}),
        (b"MAIL FROM:<a@xn--99999999.test>\r\n", {501}),
        ("MAIL FROM:<a\u202e@ext.test> SMTPUTF8\r\n".encode(), {500, 501}),
        (b"MAIL FROM:<" + b"x" * 64 + b"@" + b"d" * 63 + b"." + b"e" * 63 + b"." + b"f" * 62 + b">\r\n", {501}),
        (b'MAIL FROM:<"' + b" " * 244 + b'"@ext.test>\r\n', {501}),
        (b"MAIL FROM:<" + b"." * 244 + b"@ext.test>\r\n", {501}),
        (b"MAIL\r\n", {501}),
        (b"MAIL TO:<a@ext.test>\r\n", {501}),
        (b"RCPT TO:<a@rcpt.test>\r\n", {503}),
        (b"DATA\r\n", {503}),
        (b"EHLO\r\n", {501}),
        (b"EHLO a b\r\n", {501}),
        (b"EHLO \x1b[31mred\r\n", {500, 501}),
        ("EHLO ev\u202eil\r\n".encode(), {500, 501}),
        (b"EHLO x\0y\r\n", {500, 501}),
        (b"RSET now\r\n", {501}),
        (b"XCLIENT ADDR=127.0.0.1\r\n", {500, 502, 550}),
        (b"XFORWARD ADDR=127.0.0.1\r\n", {500, 502, 550}),
        (b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", {500, 502, 550}),
        (b"TURN\r\n", {500, 502}),
        (b"ETRN ext.test\r\n", {500, 502}),
        (b"SEND FROM:<a@ext.test>\r\n", {500, 502}),
        (b"NOOP " + b"x" * 3000 + b"\r\n", {500}),
        (b"\x80\x81\xfe\r\n", {500, 501}),
        (b"\r\n", {500}),
        (b" NOOP\r\n", {500}),
    ],
    ids=lambda value: repr(value)[:60] if isinstance(value, bytes) else None,
)
async def test_one_refusal_and_no_second_command(relay: Whole, octets: bytes, codes: set[int], listener: str):
    async with relay.client("open") if listener == "open" else relay.user() as client:
        if listener == "open":
            assert await client.code("EHLO c.test") == 250
        code = await client.code(octets)
        assert code in codes
        assert await client.say("NOOP") == "250 2.0.0 OK"
        assert await client.code("RCPT TO:<b@rcpt.test>") == (250 if code == 250 else 503)


@pytest.mark.parametrize("listener", ["open", "submit"])
async def test_the_longest_line(relay: Whole, listener: str):
    """2048 octets with CRLF; what is too long is skipped to its end, however it comes."""
    async with relay.client("open") if listener == "open" else relay.user() as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code(b"NOOP " + b"x" * 2041 + b"\r\n") == 250
        assert await client.code(b"NOOP " + b"x" * 2042 + b"\r\n") == 500
        client.send(b"NOOP " + b"x" * 4000)
        assert (await client.reply()).startswith("500 5.5.2 "), "before the line has ended"
        client.send(b"\nRSET\rQUIT\n" + b"AUTH PLAIN " * 2000 + b"\r\n")
        assert await client.say("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("listener", ["open", "submit"])
@pytest.mark.parametrize(
    "path",
    [
        b"<" + b"x" * 244 + b"@ext.test>",
        b'<"' + b" " * 242 + b'"@ext.test>',
        b"<" + b"." * 242 + b"@ext.test>",
        b"<a@" + b"d" * 63 + b".test>",
        b"<" + b"x" * 64 + b"@" + b"d" * 63 + b"." + b"e" * 63 + b"." + b"f" * 61 + b">",
    ],
    ids=["local part", "quoted local part", "stray dots", "label", "domain"],
)
async def test_the_longest_that_is_right(relay: Whole, path: bytes, listener: str):
    """So that the refusals of one octet more are those of the limit."""
    async with relay.client("open") if listener == "open" else relay.user() as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code(b"MAIL FROM:" + path + b"\r\n") == 250
        assert await client.code(b"RCPT TO:" + path + b"\r\n") == 250
        assert await client.code("RSET") == 250


@pytest.mark.parametrize("listener", ["open", "submit"])
@pytest.mark.parametrize(
    ("octets", "codes"),
    [
        (b"RCPT TO:<b@rcpt.test> NOTIFY=NEVER,SUCCESS\r\n", {501}),
        (b"RCPT TO:<b@rcpt.test> NOTIFY=SUCCESS NOTIFY=FAILURE\r\n", {501}),
        (b"RCPT TO:<b@rcpt.test> NOTIFY=\r\n", {501}),
        (b"RCPT TO:<b@rcpt.test> ORCPT=rfc822;a+zz\r\n", {501}),
        (b"RCPT TO:<b@rcpt.test> ORCPT=rfc822;a+0D+0ABcc:x\r\n", {501}),
        (b"RCPT TO:<b@rcpt.test> ORCPT=x\r\n", {501}),
        (b"RCPT TO:<b@rcpt.test> SIZE=1\r\n", {555}),
        (b"RCPT TO:<b@rcpt.test>\nDATA\r\n", {500, 501}),
        ("RCPT TO:<ä@rcpt.test>\r\n".encode(), {553}),
        (b"RCPT TO:<b@rcpt.test\r\n", {501}),
        (b"RCPT TO:<>\r\n", {501}),
        (b"RCPT TO:<" + b"x" * 245 + b"@rcpt.test>\r\n", {501, 553}),
        (b"RCPT TO:\r\n", {501}),
        (b"RCPT TO: @local.test:b@rcpt.test\r\n", {501}),
        (b"RCPT TO: b@local.test@rcpt.test\r\n", {501}),
        (b"RCPT TO:b@rcpt.test c@rcpt.test\r\n", {555}),
        (b"RCPT TO:<b@" + b"y" * 64 + b".test>\r\n", {501, 553}),
        (b'RCPT TO:<"a\\\rb"@ext.test>\r\n', {500, 501}),
        ("RCPT TO:<b@rcpt.test> NOTIFY=\u017fUCCESS\r\n".encode(), {501}),
        ("RCPT TO:<b@rcpt.test> NOTIFY=NEVER\u2003ORCPT=rfc822;x\r\n".encode(), {501}),
        (b"RCPT TO:<b@rcpt.test\0>\r\n", {500, 501}),
        (b"RCPT TO:<\xc0\xae@rcpt.test>\r\n", {501}),
        (b"RCPT TO:<b@xn---.test>\r\n", {501}),
        (b"MAIL FROM:<a@ext.test>\r\n", {503}),
        (b"AUTH PLAIN AGEAYg==\r\n", {503}),
        (b"STARTTLS now\r\n", {501}),
    ],
    ids=repr,
)
async def test_within_a_transaction(relay: Whole, octets: bytes, codes: set[int], listener: str):
    token = relay.token()
    async with relay.client("open") if listener == "open" else relay.user() as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        assert await client.code(octets) in codes
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250, "the transaction goes on"
        assert await client.code("DATA") == 354
        assert await client.code(b"From: <a@ext.test>\r\n\r\nx\r\n.\r\n") == 250
    message = await relay.took(token)
    assert [rcpt.address for rcpt in message.recipients] == [f"{token}@rcpt.test"]


@pytest.mark.parametrize("listener", ["open", "submit"])
@pytest.mark.parametrize(
    "argument", ["-1", "x", "99999999999999999999", "+5", "\u0663", "5 LASTX", "5 LAST LAST", "", "0x5", "1_0"]
)
async def test_a_chunk_without_a_size_ends_the_session(relay: Whole, argument: str, listener: str):
    async with relay.client("open") if listener == "open" else relay.user() as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        assert await client.code("RCPT TO:<b@rcpt.test>") == 250
        client.send(f"BDAT {argument}\r\nMAIL FROM:<smuggled@evil.test>\r\nNOOP\r\n".encode())
        lines = (await client.rest()).splitlines()
        assert [line[:3] for line in lines] == ["501"]


async def test_chunks(relay: Whole):
    token = relay.token()
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        assert await client.code(b"BDAT 23\r\nFrom: <a@ext.test>\r\n\r\nx") == 250
        assert await client.code(b"BDAT 6\r\nRSET\r\n") == 250
        assert await client.code("DATA") == 503
        assert await client.code(b"BDAT 5\r\n\r\n.\r\n") == 250
        assert await client.code(b"BDAT 0 LAST\r\n") == 250
        assert await client.code(b"BDAT 6 LAST\r\nQUIT\r\n") == 503
        assert await client.say("NOOP") == "250 2.0.0 OK"
    message = await relay.took(token)
    assert message.content.split(b"\r\n\r\n", 1)[1] == b"xRSET\r\n\r\n.\r\n"
    assert message.raw.endswith(b"xRSET\r\n\r\n..\r\n.\r\n"), (
        "a line that is a dot in a chunk is stuffed on the way out"
    )


async def test_a_failed_chunk_takes_the_others_with_it(relay: Whole):
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        assert await client.code("RCPT TO:<b@rcpt.test>") == 250
        assert await client.code(b"BDAT 4\r\nA\0b:") == 554
        client.send(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n")
        assert (await client.reply()).startswith("503 ")
        assert (await client.reply()).startswith("503 ")
        assert await client.say("NOOP") == "250 2.0.0 OK"


@pytest.mark.parametrize("listener", ["open", "submit", "optional", "implicit"])
@pytest.mark.parametrize(
    "octets",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get / http/1.0\r\n\r\n",
        HTTP,
        HELLO,
        bytes(range(256)),
        bytes(range(255, -1, -1)),
        bytes(range(256)) + b"\r\n" + HTTP,
        b"SSH-2.0-x\x00\r\n",
        b"\0\0\0\x0c",
        b"\xff\xff\r\nMAIL FROM:<a@e.test>\r\n",
    ],
    ids=["get", "lower", "post", "tls", "octets", "binary", "both", "ssh", "count", "binary line"],
)
async def test_other_protocols_are_shown_the_door(relay: Whole, octets: bytes, listener: str):
    async with relay.client(listener) as client:
        client.send(octets)
        assert [line[:9] for line in (await client.rest()).splitlines()] == ["421 4.7.0"]


async def test_what_a_browser_posts_is_never_mail(relay: Whole):
    """Though its body, line by line, is a mail that this client could send."""
    token = relay.token()
    mail = HTTP.partition(b"\r\n\r\n")[2].replace(b"<b@", f"<{token}@".encode())
    mail = mail.replace(b"DATA\r\n", b"DATA\r\nFrom: <a@e.test>\r\n\r\n")
    for first in (b"POST / HTTP/1.1", b"PUT /x HTTP/1.1", b"PROPFIND / HTTP/1.1\r\nHost: x", b"X /\r\nCookie: a=b"):
        async with relay.client("open") as client:
            client.send(first + b"\r\n\r\n" + mail)
            codes = [line[:3] for line in (await client.rest()).splitlines()]
            assert codes in (["421"], ["500", "421"])
    assert token not in await relay.command("queue", "list", "--json")
    assert not any(token in rcpt.address for message in relay.receiver.messages for rcpt in message.recipients)


@pytest.mark.parametrize("listener", ["open", "submit"])
@pytest.mark.parametrize("breaker", [b"RSET\r\n", b"EHLO c.test\r\n", b"HELO c.test\r\n"])
async def test_nothing_of_a_transaction_outlives_its_end(relay: Whole, breaker: bytes, listener: str):
    """Recipients, chunks and their faults are those of one transaction, wherever it is broken off."""
    token = relay.token()
    async with relay.client("open") if listener == "open" else relay.user() as client:
        assert await client.code("EHLO c.test") == 250
        for chunk in (b"", b"BDAT 4\r\nA: b", b"BDAT 4\r\nA\0b:"):
            client.send(b"MAIL FROM:<app@sender.test>\r\nRCPT TO:<lost@rcpt.test>\r\n" + chunk)
            wanted = ["250", "250"] + ([("554" if b"\0" in chunk else "250")] if chunk else [])
            assert [(await client.reply())[:3] for _ in wanted] == wanted
            assert await client.code(breaker) == 250
            assert await client.code("DATA") == 503
            assert await client.code(b"BDAT 6 LAST\r\nQUIT\r\n") == 503
        assert await client.code("MAIL FROM:<app@sender.test>") == 250
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        assert await client.code(b"From: <app@sender.test>\r\n\r\nx\r\n.\r\n") == 250
    message = await relay.took(token)
    assert [rcpt.address for rcpt in message.recipients] == [f"{token}@rcpt.test"]
    assert message.content.endswith(b"\r\n\r\nx\r\n")


async def test_no_command_of_the_plain_session_counts_within_tls(relay: Whole):
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<a@ext.test>") == 250
        await secure(client)
        assert await client.code("RCPT TO:<b@rcpt.test>") == 503
