"""Never an open relay: no form of address lets a stranger's mail through, and users keep to their own addresses."""

import pytest

from tests.support.whole import CHOSEN, DOMAIN, PERSON, Whole, plain, secure

FORMS = [
    b"<victim@ext.test>",
    b"<victim%ext.test@local.test>",
    b"<ext.test!victim>",
    b"<ext.test!victim@local.test>",
    b"<@local.test:victim@ext.test>",
    b"<@local.test,@local.test:victim@ext.test>",
    b'<"victim@ext.test"@local.test>',
    b'<"victim@ext.test">',
    b"<victim@ext.test@local.test>",
    b"<victim@local.test@ext.test>",
    b"<victim@ext.test.>",
    b"<victim@[127.0.0.1]>",
    b"<victim@127.0.0.1>",
    b"<victim@[IPv6:::1]>",
    b"<victim@[IPv6:::ffff:127.0.0.1]>",
    b"<victim@localhost>",
    b"<victim@relay.test>",
    b"<VICTIM@EXT.TEST>",
    b"<victim @ext.test>",
    b"<victim\0@ext.test>",
    b"<victim@ext.test,local.test>",
    b"<victim@ext.test;local.test>",
    b"<victim@ext.test(@local.test)>",
    b"<victim@ext.test\\@local.test>",
    b"<victim@sub.local.test>",
    b"<victim@xlocal.test>",
    b"<victim@.local.test>",
    "<victim@l\u043ecal.test>".encode(),
    b"<victim@[local.test]>",
    b"victim@ext.test",
    b"<postmaster>",
    b"<>",
]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("listener", ["open", "optional", "submit"])
@pytest.mark.parametrize("form", FORMS, ids=repr)
async def test_no_form_of_address_is_relayed(relay: Whole, form: bytes, listener: str, tls: bool):
    async with relay.client(listener, stranger=True) as client:
        if tls:
            await secure(client)
        assert await client.code("EHLO c.test") == 250
        for sender in (b"<s@ext.test>", b"<>", b"<app@sender.test>"):
            code = await client.code(b"MAIL FROM:" + sender + b" SMTPUTF8\r\n")
            assert code == (530 if listener == "submit" else 250)
            code = await client.code(b"RCPT TO:" + form + b"\r\n")
            assert 500 <= code < 600
            assert await client.code("DATA") == 503
            assert await client.code("RSET") == 250


async def test_a_network_is_trusted_for_its_own_addresses_alone(relay: Whole):
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code("MAIL FROM:<s@ext.test>") == 250
        assert await client.code("RCPT TO:<victim@ext.test>") == 250


@pytest.mark.parametrize(
    ("sender", "code"),
    [
        (f"person@{DOMAIN}", 250),
        (f"PERSON@{DOMAIN.upper()}", 250),
        ("", 250),
        ("person@ext.test", 553),
        (f"person@sub.{DOMAIN}", 553),
        (f"person@x{DOMAIN}", 553),
        (f'"person@{DOMAIN}"@ext.test', 553),
        (f"person%{DOMAIN}@ext.test", 553),
    ],
)
async def test_a_user_keeps_to_the_addresses_allowed(relay: Whole, sender: str, code: int):
    async with relay.client("submit", stranger=True) as client:
        await secure(client)
        assert await client.code("EHLO c.test") == 250
        assert await client.code(f"AUTH PLAIN {plain(PERSON, CHOSEN)}") == 235
        assert await client.code(f"MAIL FROM:<{sender}>") == code


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (f"From: <person@{DOMAIN}>", 250),
        ("From: <person@ext.test>", 550),
        (f"From: <person@{DOMAIN}>, <boss@ext.test>\r\nSender: <person@{DOMAIN}>", 550),
        (f"From: person@{DOMAIN} <boss@ext.test>", 550),
        (f"From: boss@ext.test <person@{DOMAIN}>", 250),
        (f"From: <boss@ext.test(> <person@{DOMAIN}>)>", 550),
        (f"From: boss@ext.test, Person <person@{DOMAIN}>, x", 554),
        (f'From: "person@{DOMAIN}" <boss@ext.test>', 550),
        (f"From: <person@{DOMAIN}>\r\nFrom: <boss@ext.test>", 554),
        (f"From : <boss@ext.test>\r\nFrom: <person@{DOMAIN}>", 554),
        (f"Subject: x\r\n From: <person@{DOMAIN}>", 554),
        (f"From: <person@{DOMAIN}> (\r\n\t<boss@ext.test>", 554),
        ("X: no author", 554),
    ],
)
async def test_a_user_does_not_write_in_another_name(relay: Whole, field: str, code: int):
    async with relay.client("submit", stranger=True) as client:
        await secure(client)
        assert await client.code("EHLO c.test") == 250
        assert await client.code(f"AUTH PLAIN {plain(PERSON, CHOSEN)}") == 235
        assert await client.code(f"MAIL FROM:<person@{DOMAIN}>") == 250
        assert await client.code(f"RCPT TO:<{relay.token()}@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        assert await client.code(f"{field}\r\n\r\nx\r\n.\r\n".encode()) == code
