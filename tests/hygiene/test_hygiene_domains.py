"""A domain has one form: what is sent on is what was decided about, however it was spelled."""

import pytest

from tests.support.whole import CHOSEN, DOMAIN, PERSON, Whole, plain, secure
from tests.support.world import message

SPELLINGS = {
    "rcpt。test": "rcpt.test",
    "rcpt．test": "rcpt.test",  # noqa: RUF001 - on purpose
    "rcpt｡test": "rcpt.test",
    "ＲＣＰＴ.test": "rcpt.test",  # noqa: RUF001 - on purpose
    "rc\ufe0fpt.test": "rcpt.test",
    "bücher。test": "xn--bcher-kva.test",
    "BÜCHER.test": "xn--bcher-kva.test",
    "straße.test": "xn--strae-oqa.test",
    "r\u0441pt.test": "xn--rpt-4ed.test",  # a Cyrillic letter: another domain, and plainly so
}


@pytest.mark.parametrize(("spelling", "form"), SPELLINGS.items(), ids=ascii)
async def test_any_spelling_leaves_in_the_one_form(relay: Whole, spelling: str, form: str):
    token = relay.token()
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code(f"MAIL FROM:<{token}@{spelling}>") == 553
        assert await client.code(f"MAIL FROM:<{token}@{spelling}> SMTPUTF8") == 250
        assert await client.code(f"RCPT TO:<{token}@{spelling}>") == 250
        assert await client.code("DATA") == 354
        assert await client.code(message("hello") + b".\r\n") == 250
    taken = await relay.took(token)
    commands = [line for line in taken.session.commands if token in line]
    assert [line.partition(">")[0] for line in commands] == [
        f"MAIL FROM:<{token}@{form}",
        f"RCPT TO:<{token}@{form}",
    ]
    assert "SMTPUTF8" not in taken.params
    assert f"for <{token}@{form}>".encode() in taken.content


@pytest.mark.parametrize("end", [".", "。", "．", "｡", "。。test", "\u2024test", "\u200b", "\u00ad"], ids=ascii)  # noqa: RUF001 - on purpose
async def test_what_has_no_form_is_refused(relay: Whole, end: str):
    async with relay.client("open") as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code(f"MAIL FROM:<a@ext.test{end}> SMTPUTF8") == 501
        assert await client.code("MAIL FROM:<a@ext.test> SMTPUTF8") == 250
        assert await client.code(f"RCPT TO:<a@ext.test{end}>") == 501


@pytest.mark.parametrize(
    ("sender", "code"),
    [
        (DOMAIN.replace(".", "。"), 250),
        (DOMAIN.replace("s", "ｓ"), 250),  # noqa: RUF001 - on purpose
        (DOMAIN.replace("e", "\u0435"), 553),
        (f"x{DOMAIN}".replace(".", "。"), 553),
        (f"ext。test。{DOMAIN}", 553),
    ],
    ids=ascii,
)
async def test_a_spelling_gives_no_other_rights(relay: Whole, sender: str, code: int):
    token = relay.token()
    async with relay.client("submit", stranger=True) as client:
        await secure(client)
        assert await client.code("EHLO c.test") == 250
        assert await client.code(f"AUTH PLAIN {plain(PERSON, CHOSEN)}") == 235
        assert await client.code(f"MAIL FROM:<person@{sender}> SMTPUTF8") == code
        if code != 250:
            return
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        octets = message("hello").replace(b"app@sender.test", f"person@{DOMAIN}".encode())
        assert await client.code(octets + b".\r\n") == 250
    assert (await relay.took(token)).sender == f"person@{DOMAIN}"
