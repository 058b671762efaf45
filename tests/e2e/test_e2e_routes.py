"""Routes to one host that differ in how to connect: no mail of one goes out over a connection of the other."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.answers import Delay
from tests.support.receiver import Receiver
from tests.support.running import until
from tests.support.world import World


def route(hub: Receiver, domain: str, tls: str, **more: Any) -> dict[str, Any]:
    return {"domains": [domain], "relay_host": f"{hub.address}:{hub.port}", "tls": tls, **more}


def password(folder: Path, name: str, word: str) -> str:
    path = folder / name
    path.write_text(f"{word}\n")
    path.chmod(0o600)
    return name


def by_domain(hub: Receiver) -> dict[str, set[bool]]:
    """Whether mail came through TLS, by the recipients' domains."""
    found: dict[str, set[bool]] = {}
    for message in hub.messages:
        for recipient in message.recipients:
            found.setdefault(recipient.address.rpartition("@")[2], set()).add(message.tls is not None)
    return found


async def listed(world: World) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await world.relay.command("queue", "list", "--json")).splitlines()]


@pytest.mark.parametrize("order", [("secret.test", "open.test"), ("open.test", "secret.test")])
async def test_no_mail_of_a_route_with_tls_leaves_in_plain_text(world: World, order: tuple[str, str]):
    hub = await world.mx("hub.test", starttls=True, content=Delay(0.02))
    tls = {"secret.test": "required", "open.test": "none"}
    await world.start(
        route=[route(hub, domain, tls[domain]) for domain in order],
        throttle={"max_connections": 2, "rate": "0", "connection_rate": "0"},
        delivery={"idle_timeout": "1m"},
    )
    for _ in range(6):
        await asyncio.gather(*(world.send(f"someone@{domain}") for domain in order))
    await world.send([f"both@{domain}" for domain in order])
    await hub.wait(14)
    assert by_domain(hub) == {"secret.test": {True}, "open.test": {False}}


async def test_without_tls_only_the_route_that_needs_none_delivers(world: World):
    hub = await world.mx("hub.test")
    await world.start(route=[route(hub, "open.test", "none"), route(hub, "secret.test", "required")])
    await world.send(["someone@secret.test", "someone@open.test"])
    await world.send(["someone@open.test"])
    await hub.wait(2)
    async with asyncio.timeout(10):
        while not (waiting := await listed(world)) or not waiting[0]["reply"]:
            await asyncio.sleep(0.1)
    assert {row["recipient"] for row in waiting} == {"someone@secret.test"}
    assert "STARTTLS" in waiting[0]["reply"]
    assert by_domain(hub) == {"open.test": {False}}


async def test_mail_goes_out_under_the_user_of_its_own_route(world: World):
    hub = await world.mx("hub.test", users={"ann": "one", "bob": "two"}, auth_required=True)
    folder = world.folder
    await world.start(
        route=[
            route(hub, "a.test", "none", user="ann", password_file=password(folder, "ann", "one")),
            route(hub, "b.test", "none", user="bob", password_file=password(folder, "bob", "two")),
        ]
    )
    for _ in range(4):
        await world.send(["someone@a.test", "someone@b.test"])
    await hub.wait(8)
    users = {(m.recipients[0].address, m.session.user) for m in hub.messages}
    assert users == {("someone@a.test", "ann"), ("someone@b.test", "bob")}


async def test_such_lanes_are_named_apart_and_found_by_their_site(world: World):
    hub = await world.mx("hub.test", starttls=True, rcpt="450 4.2.1 busy")
    site = f"{hub.address}:{hub.port}"
    await world.start(
        route=[route(hub, "secret.test", "required"), route(hub, "open.test", "none")],
        retry={"schedule": ["1h"]},
    )
    await world.send(["someone@secret.test", "someone@open.test"])
    async with asyncio.timeout(10):
        while len(rows := await listed(world)) < 2 or not all(row["reply"] for row in rows):
            await asyncio.sleep(0.1)
    assert {row["domain"]: row["site"] for row in rows} == {
        "secret.test": f"{site}#required",
        "open.test": f"{site}#none",
    }
    for pattern, found in ((site, 2), (f"{site}#none", 1), (f"{hub.address}:*", 2), ("other:25", 0)):
        names = await world.relay.command("queue", "list", "--json", "--site", pattern)
        assert len(names.splitlines()) == found, pattern
    await world.relay.command("suspend", "add", "--site", site, "--reason", "their move")
    assert all("suspended" in row["why"] for row in await listed(world))


async def reload(world: World, **settings: Any) -> None:
    before = world.relay.log.count("reloaded")
    world.relay.write_settings(**settings)
    assert world.relay.process is not None
    os.kill(world.relay.process.pid, signal.SIGHUP)
    await until(lambda: world.relay.log.count("reloaded") > before)


async def test_a_reload_that_asks_for_tls_ends_connections_made_without(world: World):
    hub = await world.mx("hub.test", starttls=True)
    await world.start(route=[route(hub, "*", "none")], delivery={"idle_timeout": "1m"})
    await world.send("first@example.test")
    await hub.wait(1)
    await reload(world, route=[route(hub, "*", "required")])
    await hub.until(lambda: hub.open == 0)
    await world.send("second@example.test")
    await hub.wait(2)
    assert [message.tls is not None for message in hub.messages] == [False, True]


async def test_what_waited_at_a_reload_goes_by_the_new_settings(world: World):
    gate = asyncio.Event()
    hub = await world.mx("hub.test", starttls=True, content=[Delay(gate), "250 2.0.0 ok"])
    await world.start(route=[route(hub, "*", "none")], throttle={"max_connections": 1}, delivery={"idle_timeout": "1m"})
    await world.send("wire@example.test")
    await hub.until(lambda: hub.sessions and "DATA" in hub.sessions[0].commands)
    for n in range(5):
        await world.send(f"waits{n}@example.test")
    await reload(world, route=[route(hub, "*", "required")])
    gate.set()
    await hub.wait(6)
    await world.drained()
    tls = {message.recipients[0].address: message.tls is not None for message in hub.messages}
    assert tls == {"wire@example.test": False} | {f"waits{n}@example.test": True for n in range(5)}


async def test_a_reload_without_a_change_keeps_the_connections(world: World):
    hub = await world.mx("hub.test")
    await world.start(route=[route(hub, "*", "none")], delivery={"idle_timeout": "1m"})
    await world.send("first@example.test")
    await hub.wait(1)
    await reload(world)
    await world.send("second@example.test")
    await hub.wait(2)
    assert len(hub.sessions) == 1


async def test_a_password_changed_in_its_file_counts_from_the_reload_on(world: World):
    hub = await world.mx("hub.test", users={"ann": "one"}, auth_required=True)
    word = password(world.folder, "word", "one")
    await world.start(route=[route(hub, "*", "none", user="ann", password_file=word)], delivery={"idle_timeout": "1m"})
    await world.send("first@example.test")
    await hub.wait(1)
    hub.features.users = {"ann": "two"}
    password(world.folder, "word", "two")
    await reload(world)
    await world.send("second@example.test")
    await hub.wait(2)
    assert len(hub.sessions) == 2
