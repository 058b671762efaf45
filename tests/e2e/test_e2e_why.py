"""`relay queue list` and `show` say why each recipient waits, with a running relay and without one."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.answers import Delay, Hang
from tests.support.world import World


async def rows(world: World, *options: str) -> dict[str, dict[str, Any]]:
    """What the list says in JSON, by recipient."""
    lines = (await world.relay.command("queue", "list", "--json", *options)).splitlines()
    return {row["recipient"]: row for row in map(json.loads, lines)}


def only_child(pid: int) -> int:
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


async def until_why(world: World, condition: Callable[[list[str]], bool], seconds: float = 15) -> dict[str, str]:
    """Wait until the explanations are so."""
    found: dict[str, str] = {}
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = {name: row["why"] for name, row in (await rows(world)).items()}
                if condition(list(found.values())):
                    return found
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not so: {list(found.items())[:20]}") from None


async def test_mail_for_a_suspended_site_that_was_never_tried_says_so(world: World):
    host, _ = world.address("example.test")
    await world.start()
    await world.relay.command("suspend", "add", "--site", host, "--for", "2h", "--reason", "their move")
    queue_id = await world.send("someone@example.test")
    words = await until_why(world, lambda whys: all("suspended" in why for why in whys))
    said = words["someone@example.test"]
    assert said.startswith("suspended for another ")
    assert f"(site {host}: their move)" in said
    assert said.partition("(")[2] in await world.relay.command("queue", "show", queue_id)
    assert said.partition("(")[2] in await world.relay.command("queue", "list")
    (shown,) = (await world.relay.command("queue", "show", "--json", queue_id)).splitlines()
    assert "their move" in json.loads(shown)["why"]
    await world.relay.stop()
    assert f"(site {host}: their move)" in (await rows(world))["someone@example.test"]["why"], "and without a server"


@pytest.mark.parametrize("pattern", ["{address}:{port}", "{address}:*"])
async def test_mail_for_a_suspended_smarthost_says_so_without_a_server(world: World, pattern: str):
    hub = await world.mx("hub.test")
    relay = await world.start(route=[{"domains": ["*"], "relay_host": f"{hub.address}:{hub.port}", "tls": "none"}])
    await relay.stop()
    site = pattern.format(address=hub.address, port=hub.port)
    await relay.command("suspend", "add", "--site", site, "--reason", "their move")
    await relay.command(
        "send",
        "--from",
        "app@sender.test",
        "--to",
        "someone@example.test",
        stdin=b"From: app@sender.test\nSubject: x\n\nhello\n",
    )
    assert "their move" in (await rows(world))["someone@example.test"]["why"]


async def test_throttled_mail_says_the_rate_and_its_place(world: World):
    mx = await world.mx("example.test")
    await world.start(throttle={"rate": "20/m", "max_connections": 1})
    await world.send("first@example.test")
    await mx.wait(1)
    for n in range(12):
        await world.send(f"user{n}@example.test")
    words = await until_why(world, lambda whys: len(whys) > 6 and all("20/m" in why for why in whys))
    places = [name for name, why in words.items() if "next in line" in why or "number " in why]
    behind = [name for name, why in words.items() if "due now, about" in why]
    assert places
    assert behind
    assert len(places) + len(behind) == len(words)
    ahead = [int(words[name].partition("about ")[2].split()[0]) for name in behind]
    assert len(set(ahead)) == len(ahead), "each has a place of its own"
    assert min(ahead) >= len(places)
    assert max(ahead) < len(words)


async def test_a_host_that_hangs_is_named_with_how_long_and_what_it_owes(world: World):
    await world.mx("example.test", mail=Hang())
    await world.start(throttle={"max_connections": 1})
    await world.send("wire@example.test")
    await world.send("behind@example.test")
    words = await until_why(world, lambda whys: any("not answered MAIL" in why for why in whys))
    wire, behind = words["wire@example.test"], words["behind@example.test"]
    assert wire.startswith("being sent to mx11.hosts.test[127.0.0.11]:")
    assert "which has not answered MAIL yet" in wire
    assert "connections are all busy, the longest for" in behind


async def test_a_host_that_does_not_greet_is_named_with_how_long(world: World):
    host, _ = world.address("example.test")
    await world.mx("other.test", greeting=Hang())
    await world.start(delivery={"command_timeout": "1m"})
    await world.send("a@other.test")
    words = await until_why(world, lambda whys: any("is being opened for" in why for why in whys))
    assert "mx12.hosts.test" in words["a@other.test"]
    assert host


async def test_mail_for_a_paused_site_says_until_when_and_why(world: World):
    world.address("dead.test")
    await world.start(throttle={"backoff": "1h", "backoff_max": "1h"})
    for n in range(3):
        await world.send(f"user{n}@dead.test")
    words = await until_why(world, lambda whys: len(whys) == 3 and all("refused" in why for why in whys))
    assert all(" in " in why for why in words.values()), words


async def test_a_report_of_a_server_that_is_gone_is_not_shown(world: World):
    await world.mx("example.test", mail=Hang())
    relay = await world.start(throttle={"max_connections": 1})
    await world.send("wire@example.test")
    await until_why(world, lambda whys: any("being sent to" in why for why in whys))
    reports = list((relay.data_dir / "run").glob("lanes-*.json"))
    assert reports
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in reports)
    relay.kill()
    words = await until_why(world, lambda whys: True)
    assert words["wire@example.test"].startswith("claimed by a worker that no longer runs")
    await relay.start()
    await relay.stop()
    assert not list((relay.data_dir / "run").glob("lanes-*"))
    assert "due now" in (await rows(world))["wire@example.test"]["why"]


async def test_a_report_of_a_worker_that_died_is_taken_back(world: World):
    mx = await world.mx("example.test", mail=Hang())
    relay = await world.start()
    await world.send("wire@example.test")
    await until_why(world, lambda whys: any("being sent to" in why for why in whys))
    before = (relay.data_dir / "run" / "lanes-0.json").stat().st_ino
    mx.scripts.set("mail", "450 4.2.1 not now")
    assert relay.process is not None
    os.kill(only_child(relay.process.pid), signal.SIGKILL)
    await until_why(world, lambda whys: any("450 4.2.1" in why for why in whys))
    report = relay.data_dir / "run" / "lanes-0.json"
    assert not report.exists() or report.stat().st_ino != before


async def test_a_worker_that_stands_still_is_not_quoted(world: World):
    await world.mx("example.test", mail=Hang())
    relay = await world.start(throttle={"max_connections": 1})
    await world.send("wire@example.test")
    await until_why(world, lambda whys: any("being sent to" in why for why in whys))
    assert relay.process is not None
    os.killpg(relay.process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(6)
        words = await until_why(world, lambda whys: True)
    finally:
        os.killpg(relay.process.pid, signal.SIGCONT)
    assert words["wire@example.test"].startswith("claimed by a worker: being sent, or next in line")


async def test_an_idle_relay_writes_no_reports(world: World):
    mx = await world.mx("example.test", content=Delay(1.5))
    relay = await world.start()
    await world.send("someone@example.test")
    await mx.wait(1)
    await world.drained()
    await asyncio.sleep(1.5)
    (report,) = (relay.data_dir / "run").glob("lanes-*.json")
    before = report.stat().st_mtime_ns
    assert "lanes" not in json.loads(report.read_text())
    await asyncio.sleep(2.5)
    assert report.stat().st_mtime_ns == before


async def test_a_reason_given_while_mail_is_being_sent_is_kept(world: World):
    gate = asyncio.Event()
    mx = await world.mx("example.test", rcpt=Delay(gate, "450 4.2.1 mailbox busy"))
    relay = await world.start(throttle={"max_connections": 1})
    queue_id = await world.send("wire@example.test")
    await mx.until(lambda: mx.sessions and any(line.startswith("RCPT") for line in mx.sessions[0].commands))
    await relay.command("queue", "hold", queue_id, "--reason", "asking them")
    gate.set()
    await until_why(world, lambda whys: all("held" in why for why in whys))
    row = (await rows(world))["wire@example.test"]
    assert row["reason"] == "asking them"
    assert row["reply"].startswith("450 4.2.1 mailbox busy")
    assert row["why"].startswith("held until released (asking them), after: 450 4.2.1")
    assert row["remote"] == f"{mx.hostname}[{mx.address}]:{mx.port}"


async def test_a_long_list_is_explained_quickly(world: World):
    """Positions are counted, not sought one by one."""
    await world.mx("example.test", mail=Hang())
    relay = await world.start(throttle={"max_connections": 1, "rate": "1/s"})
    for part in range(5):
        await world.send([f"user{part}-{n}@example.test" for n in range(1000)])
    await until_why(world, lambda whys: sum("ahead of it" in why for why in whys) > 500, 30)
    began = time.monotonic()
    await relay.command("queue", "list", "--json", "--limit", "10000")
    assert time.monotonic() - began < 10
