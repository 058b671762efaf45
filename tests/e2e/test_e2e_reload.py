"""Reloads as an admin asks for them: with many keys, under load, with settings that are bad or need a restart."""

import asyncio
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relay.message.dkim.keys import generate
from tests.support.dkim_keys import pem
from tests.support.running import Relay, free_port, until
from tests.support.world import World, message


def hup(relay: Relay) -> None:
    assert relay.process is not None
    relay.process.send_signal(signal.SIGHUP)


async def reloaded(relay: Relay, workers: int = 1) -> None:
    """Reload and wait until each worker has the new settings."""
    before = relay.log.count("what=reloaded")
    hup(relay)
    await until(lambda: relay.log.count("what=reloaded") == before + workers)


def children_of(relay: Relay) -> list[int]:
    assert relay.process is not None
    path = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def listener(port: int, **more: Any) -> dict[str, Any]:
    return {"address": f"127.0.0.1:{port}", "tls": "none", "auth": "optional"} | more


async def first_reply(port: int, *lines: bytes) -> bytes:
    """All that a session says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(line + b"\r\n" for line in (*lines, b"QUIT")))
    said = await reader.read()
    writer.close()
    return said


async def slowest_reply(port: int, until_done: asyncio.Event) -> float:
    """Seconds that the slowest reply took while something else went on."""
    slowest = 0.0
    while not until_done.is_set():
        began = time.monotonic()
        await first_reply(port, b"EHLO c.test")
        slowest = max(slowest, time.monotonic() - began)
        await asyncio.sleep(0.01)
    return slowest


@pytest.mark.slow
async def test_a_reload_with_many_new_keys_holds_up_nobody(world: World):
    """Each key takes OpenSSL 40 ms to validate, as a whole and twice: a worker was deaf for half a minute."""
    relay = await world.start(workers=1)
    keys = world.folder / "keys"
    keys.mkdir()
    base = [generate("rsa") for _ in range(20)]
    dkim: dict[str, Any] = {}
    for n in range(300):
        path = keys / f"{n}.pem"
        # A comment before the key makes it a file of its own, without the time that a key of its own takes to make.
        path.write_bytes(b"# %d\n" % n + base[n % 20])
        path.chmod(0o600)
        dkim[f"d{n}.test"] = {"selector": "s", "key": str(path)}
    relay.write_settings(dkim=dkim)
    done = asyncio.Event()
    watching = asyncio.create_task(slowest_reply(relay.plain, done))
    await reloaded(relay)
    done.set()
    assert await watching < 1.5
    assert "does not respond" not in relay.log
    began = time.monotonic()
    await reloaded(relay)
    assert time.monotonic() - began < 5
    assert await relay.stop() == 0
    began = time.monotonic()
    await relay.start()
    assert time.monotonic() - began < 10


async def test_reloads_under_load_lose_and_double_nothing(world: World):
    mx = await world.mx("example.test")
    relay = await world.start(workers=2, throttle={"rate": "0", "connection_rate": "0"})
    sent: set[str] = set()

    async def submit(first: int) -> None:
        for n in range(first, 400, 4):
            recipient = f"user{n}@example.test"
            await world.send(recipient)
            sent.add(recipient)

    submitting = asyncio.gather(*(submit(first) for first in range(4)))
    sizes = 0
    while not submitting.done():
        sizes += 1
        relay.write_settings(submission={"trusted_networks": ["127.0.0.0/8"], "max_message_size": f"{sizes}MiB"})
        hup(relay)
        hup(relay)
        await asyncio.sleep(0.05)
    await submitting
    await mx.wait(400)
    await world.drained()
    assert Counter(mx.recipients()) == Counter(sent)
    hup(relay)
    for _ in range(20):  # as the kernel spreads connections, most likely at both workers
        async with asyncio.timeout(20):
            while b"SIZE %d\r\n" % (sizes << 20) not in await first_reply(relay.plain, b"EHLO c.test"):
                await asyncio.sleep(0.02)
    assert relay.log.count("what=reloaded") <= 2 * (2 * sizes + 1)
    assert "reload refused" not in relay.log
    assert "Traceback" not in relay.log


async def test_new_keys_are_used_and_a_damaged_one_keeps_the_old(world: World):
    mx = await world.mx("example.test")
    relay = await world.start()
    path = world.folder / "key.pem"
    path.write_bytes(pem("rsa"))
    path.chmod(0o600)

    async def selectors() -> bytes:
        count = len(mx.messages)
        await world.send("someone@example.test", content=message())
        await mx.wait(count + 1)
        content = mx.messages[-1].content
        return content.partition(b"\ts=")[2].partition(b";")[0] if b"DKIM-Signature" in content else b""

    assert await selectors() == b""
    relay.write_settings(dkim={"sender.test": {"selector": "one", "key": str(path)}})
    await reloaded(relay)
    assert await selectors() == b"one"
    path.write_bytes(pem("rsa")[:-200])
    relay.write_settings(dkim={"sender.test": {"selector": "two", "key": str(path)}})
    hup(relay)
    await until(lambda: "reload refused" in relay.log)
    assert "no private key in PEM form" in relay.log
    assert await selectors() == b"one"
    path.write_bytes(pem("ed25519"))
    await reloaded(relay)
    assert await selectors() == b"two"


async def test_each_setting_that_takes_a_restart_is_named(world: World):
    relay = await world.start()
    port = free_port()
    relay.write_settings(
        workers=2, data_dir="elsewhere", listener=[listener(relay.plain, proxy_protocol=True), listener(port)]
    )
    await reloaded(relay)
    lines = [line for line in relay.log.splitlines() if 'what="restart needed"' in line]
    assert len(lines) == 4
    for line, words in zip(
        lines,
        (
            f"setting=data_dir running={relay.data_dir} wanted={world.folder}/elsewhere",
            "setting=workers running=1 wanted=2",
            f'setting="listener 127.0.0.1:{relay.plain} proxy_protocol" running=false wanted=true',
            f'setting="listener 127.0.0.1:{port}" running="not listening" wanted=added',
        ),
        strict=True,
    ):
        assert "level=warning event=process worker=supervisor" in line
        assert words in line
    assert (await first_reply(relay.plain)).startswith(b"220 "), "it goes on as it was"


async def test_a_worker_that_starts_after_a_reload_has_the_listeners_new_settings(world: World):
    relay = await world.start()
    envelope = (b"EHLO c.test", b"MAIL FROM:<a@sender.test>")
    assert b"\r\n250 2.1.0" in await first_reply(relay.plain, *envelope)
    relay.write_settings(listener=[listener(relay.plain, auth="required", plaintext_auth=True)])
    await reloaded(relay)
    for _ in range(2):
        assert b"\r\n530 " in await first_reply(relay.plain, *envelope)
        os.kill(children_of(relay)[0], signal.SIGKILL)
        await until(lambda: relay.log.count("worker ready") == 2)
        await relay.greeted()


async def test_the_supervisor_takes_new_log_settings_too(world: World):
    relay = await world.start()
    relay.write_settings(log={"destination": str(world.folder / "relay.log"), "format": "json"})
    await reloaded_into(relay, world.folder / "relay.log")
    os.kill(children_of(relay)[0], signal.SIGKILL)
    await until(lambda: '"what":"child died"' in (world.folder / "relay.log").read_text())


async def reloaded_into(relay: Relay, path: Path) -> None:
    hup(relay)
    await until(lambda: path.exists() and '"what":"reloaded"' in path.read_text())


async def test_the_reload_command_checks_first_and_opens_logs_in_any_case(world: World):
    path = world.folder / "relay.log"
    relay = await world.start(log={"destination": str(path)})
    relay.write_settings(submission={"trusted_networks": ["127.0.0.0/8"], "max_message_size": "3MiB"})
    assert "`relay events --kind process" in (await asyncio.to_thread(relay.run, "reload")).stderr.decode()
    await until(lambda: "what=reloaded" in path.read_text())
    relay.write_settings(submission={"max_message_size": "oops"})
    done = await asyncio.to_thread(relay.run, "reload")
    assert done.returncode == 1
    assert b"max_message_size" in done.stderr
    path.rename(world.folder / "old.log")
    done = await asyncio.to_thread(relay.run, "reload", "--logs")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    await until(path.exists)
    assert "reload refused" not in (world.folder / "old.log").read_text(), "the relay was not asked"
    relay.path.write_text("no TOML")
    assert (await asyncio.to_thread(relay.run, "reload", "--logs")).returncode == 1
    assert b"SIZE %d\r\n" % (3 << 20) in await first_reply(relay.plain, b"EHLO c.test")
