"""The disk is full: mail is refused, an admin can act all the same, and with room again everything is as before."""

import asyncio
import contextlib
import json
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay_queue import reserve
from tests.faults.campaign import CannotError
from tests.faults.resources import filled, small_disk
from tests.support.running import until
from tests.support.world import World, message


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(small_disk(tmp_path, "size=24m"))
        except CannotError as error:
            pytest.skip(str(error))
        yield made


async def test_an_admin_acts_on_a_full_disk_beside_the_relay(world: World, disk: Path):
    # No MX anywhere: all mail waits.
    relay = await world.start(
        data_dir=str(disk / "data"),
        limits={"free_disk": "1KiB"},
        route=[{"domains": ["*"], "relay_host": "127.0.0.1:1", "tls": "none"}],
        retry={"schedule": ["1h"]},
    )
    data = disk / "data"

    def send(to: str) -> int:
        try:
            with smtplib.SMTP("127.0.0.1", relay.plain, timeout=20) as client:
                client.sendmail("app@sender.test", [to], message("x"))
        except smtplib.SMTPSenderRefused as error:
            return error.smtp_code
        except smtplib.SMTPDataError as error:
            return error.smtp_code
        return 250

    def shell(*args: str) -> str:
        done = relay.run(*args)
        assert done.returncode == 0, (args, done.stderr)
        return done.stdout.decode()

    for n in range(6):
        assert await asyncio.to_thread(send, f"u{n}@example.test") == 250
    await until(lambda: (data / reserve.NAME).exists() and reserve.whole(data))
    listed = [json.loads(line) for line in (await asyncio.to_thread(shell, "queue", "list", "--json")).splitlines()]
    ids = [record["id"] for record in listed]
    with filled(disk):
        await until(lambda: send("more@example.test") == 452)
        for number, verb in enumerate(("hold", "flush", "drop", "fail")):
            assert "1 recipient" in await asyncio.to_thread(shell, "queue", verb, ids[number])
        await asyncio.to_thread(shell, "suspend", "add", "--domain", "x.test")
        await asyncio.to_thread(shell, "suspend", "remove", "--all")
        assert not reserve.whole(data)
        assert await asyncio.to_thread(send, "more@example.test") == 452, "mail does not take what was freed"
    await until(lambda: reserve.whole(data), 15)
    await until(lambda: send("again@example.test") == 250)
    assert "child died" not in relay.log
