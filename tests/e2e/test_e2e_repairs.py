"""What real applications send: it is taken, repaired, signed, and arrives so that readers see what was written."""

import asyncio
import smtplib
from email import message_from_bytes

import pytest

from relay.message.dkim.keys import record
from tests.support.dkim_keys import key, pem, results
from tests.support.raw_smtp import RawClient
from tests.support.world import World

ENVELOPE = b"EHLO app.test\r\nMAIL FROM:<app@sender.test>\r\nRCPT TO:<someone@example.test>\r\n"


async def started(world: World, **submission):
    one = key("sender.test")
    (world.folder / "key.pem").write_bytes(pem("ed25519"))
    (world.folder / "key.pem").chmod(0o600)
    assert record(one)
    mx = await world.mx("example.test")
    await world.start(
        dkim={"sender.test": {"selector": "ed25519", "key": str(world.folder / "key.pem")}},
        submission={"trusted_networks": ["127.0.0.0/8"]} | submission,
    )
    return mx, one


async def send(world: World, dialog: bytes, content: bytes, *, bdat: bool = False) -> str:
    """One transaction by hand, as no library would write it; the last reply."""
    client = RawClient(*await asyncio.open_connection("127.0.0.1", world.relay.plain))
    reply = await client.reply()
    for line in dialog.split(b"\r\n")[:-1]:
        reply = await client.say(line + b"\r\n")
        if int(reply[:3]) >= 400:
            break
    else:
        if bdat:
            half = len(content) // 2
            assert (await client.say(b"BDAT %d\r\n" % half + content[:half])).startswith("250 ")
            reply = await client.say(b"BDAT %d LAST\r\n" % (len(content) - half) + content[half:])
        else:
            assert (await client.say(b"DATA\r\n")).startswith("354 ")
            reply = await client.say(content + b"\r\n.\r\n")
    await client.close()
    return reply


@pytest.mark.parametrize("bdat", [False, True], ids=["data", "bdat"])
@pytest.mark.parametrize("size", [3_000, 1_000_000])
async def test_a_page_in_one_line(world: World, bdat: bool, size: int):
    mx, one = await started(world)
    page = ("<p>Grüße, 100 % = alles.</p> " * (size // 30)).encode()
    content = (
        b"From: [Shop] News <app@sender.test>\r\nSubject: x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
    )
    assert (await send(world, ENVELOPE, content, bdat=bdat)).startswith("250 ")
    (got,) = await mx.wait(1)
    assert max(map(len, got.content.split(b"\r\n"))) <= 998
    assert results(got.content, one) == [True]
    parsed = message_from_bytes(got.content)
    assert parsed["From"] == '"[Shop] News" <app@sender.test>'
    assert parsed.get_payload(decode=True).rstrip(b"\r\n") == page


async def test_long_lines_can_be_refused(world: World):
    await started(world, long_lines="refuse")
    reply = await send(world, ENVELOPE, b"From: app@sender.test\r\n\r\n" + b"x" * 999)
    assert reply.startswith("500 5.5.2 ")


CRON = (
    b"From root Sat Nov 28 07:37:12 2026\r\nFrom: root (Cron Daemon)\r\nTo: root\r\nSubject: x\r\nDate:\r\n\r\nout\r\n"
)


async def test_mail_of_cron(world: World):
    mx, _ = await started(world, default_domain="example.test")
    dialog = b"EHLO host\r\nMAIL FROM:<root>\r\nRCPT TO:<root>\r\n"
    assert (await send(world, dialog, CRON)).startswith("250 ")
    (got,) = await mx.wait(1)
    assert (got.sender, mx.recipients()) == ("root@example.test", ["root@example.test"])
    parsed = message_from_bytes(got.content)
    assert parsed["From"] == "root@example.test (Cron Daemon)"
    assert parsed["To"] == "root@example.test"
    assert len(parsed.get_all("Date")) == 1
    assert parsed["Date"]


async def test_mail_of_cron_without_the_setting_says_what_to_set(world: World):
    await started(world)
    for dialog in (
        b"EHLO host\r\nMAIL FROM:<root>\r\n",
        b"EHLO host\r\nMAIL FROM:<>\r\nRCPT TO:<root>\r\n",
        ENVELOPE,
    ):
        assert "submission.default_domain" in await send(world, dialog, CRON)


async def test_a_user_cannot_pass_with_another_address_beside_the_own(world: World):
    mx, _ = await started(world)
    added = await world.relay.command(
        "user", "add", "app", "--sender", "app@sender.test", "--password", stdin=b"correct horse battery\n"
    )
    assert added is not None

    def submit(author: str) -> tuple[int, bytes]:
        with smtplib.SMTP("127.0.0.1", world.relay.plain) as client:
            client.ehlo()
            client.login("app", "correct horse battery")
            client.mail("app@sender.test")
            client.rcpt("someone@example.test")
            return client.data(f"From: {author}\r\nSubject: x\r\n\r\nx\r\n")

    world.relay.write_settings(
        listener=[
            {"address": f"127.0.0.1:{world.relay.plain}", "tls": "none", "auth": "optional", "plaintext_auth": True}
        ]
    )
    await world.relay.stop()
    await world.relay.start()
    code, text = await asyncio.to_thread(submit, "app@sender.test <victim@example.test>")
    assert code == 550
    assert b"<victim@example.test>" in text
    assert b"app@sender.test" in text
    code, text = await asyncio.to_thread(submit, "victim@example.test <app@sender.test>")
    assert code == 250
    (got,) = await mx.wait(1)
    assert message_from_bytes(got.content)["From"] == '"victim@example.test" <app@sender.test>'
