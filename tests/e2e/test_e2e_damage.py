"""A damaged queue, as an admin meets it: mail is refused, `relay check` says why, a salvage brings back the rest."""

import asyncio
import smtplib
import sqlite3
from pathlib import Path

from relay.process.marker import DAMAGED
from relay_queue.sqlite.connect import FILE_NAME
from relay_queue.sqlite.salvage.records import PAGE
from tests.support.running import Relay, until
from tests.support.world import World, message


def answer(relay: Relay, to: str) -> int:
    """The code of the reply to a message, or of whatever kept it from being sent."""
    try:
        with smtplib.SMTP("127.0.0.1", relay.plain, timeout=20) as client:
            client.sendmail("app@sender.test", [to], message("x"))
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except smtplib.SMTPRecipientsRefused as error:
        return next(iter(error.recipients.values()))[0]
    return 250


def spoil(path: Path, table: str, place: int) -> None:
    """Overwrite the head of a leaf page."""
    connection = sqlite3.connect(path)
    (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    octets = bytearray(path.read_bytes())
    at = (root - 1) * PAGE
    pages = [root]
    if octets[at] in {2, 5}:
        count = int.from_bytes(octets[at + 3 : at + 5], "big")
        cells = [int.from_bytes(octets[at + 12 + 2 * n : at + 14 + 2 * n], "big") for n in range(count)]
        pages = [int.from_bytes(octets[at + cell : at + cell + 4], "big") for cell in cells]
    at = (pages[place] - 1) * PAGE
    octets[at : at + 8] = b"\xff" * 8
    path.write_bytes(octets)


async def test_damage_is_met_told_and_salvaged(world: World):
    mx = await world.mx("example.test")
    throttle = {"rate": "0", "connection_rate": "0", "max_connections": 10}
    relay = await world.start(workers=2, retry={"schedule": ["1s"]}, throttle=throttle)
    shell = relay.run
    assert (await asyncio.to_thread(shell, "suspend", "add", "--domain", "example.test")).returncode == 0
    taken = [f"{'u' * 40}{n}@example.test" for n in range(120)]
    await asyncio.gather(*(asyncio.to_thread(answer, relay, to) for to in taken))
    await relay.stop()
    await asyncio.to_thread(lambda: shell("suspend", "remove", "--all"))
    spoil(relay.data_dir / FILE_NAME, "recipient", 1)

    await relay.start()
    await until(lambda: "queue damaged" in relay.log)
    await until((relay.data_dir / DAMAGED).exists)
    await mx.wait(1)  # what can be read is delivered, until an outcome meets the damage
    await until(lambda: relay.log.count('what="queue damaged"') == 2)  # by both workers
    for _ in range(6):
        assert await asyncio.to_thread(answer, relay, "new@example.test") == 421
    checked = await asyncio.to_thread(shell, "check")
    assert checked.returncode == 1
    assert b"the queue is damaged" in checked.stdout
    assert b"relay queue salvage" in checked.stdout
    refused = await asyncio.to_thread(shell, "queue", "salvage")
    assert refused.returncode == 1
    assert b"already running" in refused.stderr
    await relay.stop()
    assert relay.log.count("child died") == 0

    started = await asyncio.to_thread(shell, "serve")
    assert started.returncode == 1
    assert b"relay queue salvage" in started.stderr

    done = await asyncio.to_thread(shell, "queue", "salvage")
    assert done.returncode == 0, done.stderr
    assert not (relay.data_dir / DAMAGED).exists()
    assert b"queue.damaged-" in done.stderr
    checked = await asyncio.to_thread(shell, "check")
    assert b"damaged" not in checked.stdout
    await relay.start()
    assert await asyncio.to_thread(answer, relay, "new@example.test") == 250
    await world.drained(60)
    got = mx.recipients()
    assert len(got) == len(set(got)), "nobody got it twice"
    assert "new@example.test" in got
    assert len(got) > 120 - 40


async def test_damage_met_at_the_start_refuses_it(world: World):
    await world.mx("example.test")
    relay = await world.start(workers=1)
    await relay.stop()
    spoil(relay.data_dir / FILE_NAME, "recipient_active", 0)
    started = await asyncio.to_thread(relay.run, "serve")
    assert started.returncode == 1
    assert b"relay queue salvage" in started.stderr
    assert (relay.data_dir / DAMAGED).exists()
    assert (await asyncio.to_thread(relay.run, "queue", "salvage")).returncode == 0
    await relay.start()
