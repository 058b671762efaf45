"""Addresses as others gave them out: long, with stray dots, with underscores, twice, without brackets."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest

from tests.support.raw_smtp import RawClient
from tests.support.world import World, message

DOTS = "first..second.@example.test"
QUOTED = '"first..second."@example.test'
LONG = f"reply+{'a' * 120}@example.test"
MAIL = message().replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"


@contextlib.asynccontextmanager
async def dialog(world: World) -> AsyncIterator[RawClient]:
    """A connection of a trusted client that said EHLO."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.relay.plain)
    client = RawClient(reader, writer)
    assert (await client.reply()).startswith("220 ")
    assert await client.code("EHLO client.test") == 250
    yield client
    await client.close()


async def hand_in(world: World, mail: str, *rcpts: str) -> str:
    """One transaction with just these commands; the queue id."""
    async with dialog(world) as client:
        assert await client.code(mail) == 250
        for rcpt in rcpts:
            assert await client.code(rcpt) == 250, rcpt
        assert await client.code("DATA") == 354
        reply = await client.say(MAIL)
        assert reply.startswith("250 "), reply
        return reply.split()[-1]


async def listed(world: World, *options: str) -> list[str]:
    """The recipients that `relay queue list` shows."""
    lines = (await world.relay.command("queue", "list", "--json", *options)).splitlines()
    return [json.loads(line)["recipient"] for line in lines]


async def test_what_others_gave_out_is_delivered(world: World):
    mx = await world.mx("example.test")
    await world.start()
    await hand_in(world, "MAIL FROM:<app@sender.test>", f"RCPT TO:<{LONG}>", f"RCPT TO:<{DOTS}>")
    await mx.until(lambda: len(mx.recipients()) == 2)
    assert sorted(mx.recipients()) == [QUOTED, LONG]


async def test_names_with_underscores_are_looked_up_and_reached(world: World):
    mx = await world.mx("elsewhere.test")
    world.dns.zones["mx_1.hosts.test"] = {"A": [mx.address]}
    world.dns.zones["dept_a.example.test"] = {"MX": [(10, "mx_1.hosts.test")]}
    world.dns.zones["dept_b.example.test"] = {"A": [mx.address]}
    await world.start()
    recipients = ["someone@dept_a.example.test", "someone@dept_b.example.test"]
    await hand_in(world, "MAIL FROM:<www-data@web_1.app_default>", *[f"RCPT TO:<{one}>" for one in recipients])
    await mx.until(lambda: len(mx.recipients()) == 2)
    assert sorted(mx.recipients()) == recipients
    assert {taken.sender for taken in mx.messages} == {"www-data@web_1.app_default"}


async def test_a_route_can_name_a_domain_with_underscores(world: World):
    mx = await world.mx("unused.test")
    route = {"domains": ["dept_a.example.test"], "relay_host": f"{mx.address}:{mx.port}", "tls": "none"}
    await world.start(route=[route])
    await hand_in(world, "MAIL FROM:<app@sender.test>", "RCPT TO:<someone@dept_a.example.test>")
    await mx.wait(1)


async def test_one_address_has_one_spelling_in_reports_events_and_filters(world: World):
    await world.mx("example.test", rcpt="550 5.1.1 no such user")
    sender = await world.mx("sender.test")
    await world.start()
    await world.relay.command("suspend", "add", "--domain", "example.test", "--reason", "later")
    queue_id = await hand_in(world, "MAIL FROM:<.app@sender.test>", f"RCPT TO:<{DOTS}>")
    for spelling in (DOTS, QUOTED, DOTS.upper()):
        assert await listed(world, "--recipient", spelling) == [QUOTED]
    for spelling in (".app@sender.test", '".app"@sender.test'):
        assert await listed(world, "--sender", spelling) == [QUOTED]
    assert await listed(world, "--recipient", "first.second@example.test") == []
    await world.relay.command("suspend", "remove", "--all")
    (report,) = await sender.wait(1)
    assert sender.recipients() == ['".app"@sender.test']
    assert f"Final-Recipient: rfc822;{QUOTED}\r\n".encode() in report.content
    for spelling in (DOTS, QUOTED):
        lines = (await world.relay.command("events", "--address", spelling, "--json")).splitlines()
        assert [json.loads(line)["id"] for line in lines if '"failed"' in line] == [queue_id]


async def test_the_shell_sends_to_such_addresses_too(world: World):
    mx = await world.mx("example.test", "dept_a.example.test")
    await world.start()
    given = [DOTS, QUOTED, LONG, "someone@dept_a.example.test", "someone@DEPT_A.example.test"]
    arguments = [word for address in given for word in ("--to", address)]
    await world.relay.command("send", "--from", "app@sender.test", *arguments, "--subject", "x", "--body", "x")
    await mx.until(lambda: len(mx.recipients()) == 3)
    assert sorted(mx.recipients()) == [QUOTED, LONG, "someone@dept_a.example.test"]


async def test_a_recipient_that_is_named_twice_gets_one_copy(world: World):
    mx = await world.mx("example.test", "bücher.test".encode("idna").decode())
    await world.start()
    queue_id = await hand_in(
        world,
        "MAIL FROM:<app@sender.test> SMTPUTF8",
        "RCPT TO:<you@example.test> NOTIFY=NEVER",
        "RCPT TO:<you@example.test> NOTIFY=SUCCESS",
        "RCPT TO:<you@EXAMPLE.test>",
        'RCPT TO:<"you"@example.test>',
        "RCPT TO:<You@example.test> NOTIFY=NEVER",
        "RCPT TO:<you@bücher.test> NOTIFY=NEVER",
        "RCPT TO:<you@xn--bcher-kva.test>",
    )
    await mx.until(lambda: len(mx.recipients()) >= 3)
    await world.drained()
    assert sorted(mx.recipients()) == ["You@example.test", "you@example.test", "you@xn--bcher-kva.test"]
    shown = (await world.relay.command("queue", "show", queue_id, "--json")).splitlines()
    assert [json.loads(line)["n"] for line in shown] == [0, 1, 2]
    events = (await world.relay.command("events", "--id", queue_id, "--json")).splitlines()
    assert [json.loads(line)["count"] for line in events if '"accepted"' in line] == [3]
    assert not [line for line in events if '"notified"' in line], "the first NOTIFY is in force"


@pytest.mark.parametrize(
    ("mail", "rcpt"),
    [
        ("MAIL FROM:app@sender.test", "RCPT TO:you@example.test"),
        ("MAIL FROM: app@sender.test", "RCPT TO: you@example.test"),
        ("mail from: app@sender.test size=1234", "rcpt to: you@example.test notify=NEVER"),
        ("MAIL FROM: <app@sender.test>", "RCPT TO: <you@example.test>"),
    ],
)
async def test_our_own_clients_may_leave_out_the_brackets(world: World, mail: str, rcpt: str):
    mx = await world.mx("example.test")
    await world.start()
    await hand_in(world, mail, rcpt)
    (taken,) = await mx.wait(1)
    assert (taken.sender, mx.recipients()) == ("app@sender.test", ["you@example.test"])
