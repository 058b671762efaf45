"""Processes: restarts, signals, a second start, and many messages without loss."""

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from relay.process.processors import available
from tests.support.answers import Delay
from tests.support.running import Relay, free_port, until
from tests.support.world import World, message


def children_of(relay: Relay) -> list[int]:
    assert relay.process is not None
    path = Path(f"/proc/{relay.process.pid}/task/{relay.process.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def cpus_of(pid: int) -> set[frozenset[int]]:
    """Where its threads may run."""
    return {frozenset(os.sched_getaffinity(int(thread.name))) for thread in Path(f"/proc/{pid}/task").iterdir()}


async def announces(relay: Relay, size: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.plain)
    writer.write(b"EHLO c.test\r\nQUIT\r\n")
    assert b"SIZE %d\r\n" % size in await reader.read()
    writer.close()


async def flood(world: World, count: int, domain: str = "example.test", threads: int = 4) -> set[str]:
    """Submit as fast as the relay takes; returns the recipients that got a 250."""
    taken: set[str] = set()

    def part(first: int) -> None:
        import smtplib

        try:
            with smtplib.SMTP("127.0.0.1", world.relay.plain, timeout=20) as client:
                for n in range(first, count, threads):
                    to = f"user{n}@{domain}"
                    client.sendmail("app@sender.test", [to], message(str(n)))
                    taken.add(to)
        except (OSError, smtplib.SMTPException):
            return  # killed under us: what had no 250 does not count

    await asyncio.gather(*(asyncio.to_thread(part, first) for first in range(threads)))
    return taken


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "count"), [(1, 2_000), (2, 10_000)])
async def test_thousands_of_messages_none_lost_none_doubled(world: World, workers: int, count: int):
    mx = await world.mx("example.test")
    await world.start(workers=workers, throttle={"rate": "0", "connection_rate": "0", "max_connections": 20})
    taken = await flood(world, count)
    assert len(taken) == count
    await mx.wait(count, 90)
    await world.drained(60)
    assert Counter(mx.recipients()) == Counter(taken)


async def test_restart_in_the_middle_loses_nothing(world: World):
    mx = await world.mx("example.test", content=Delay(0.01))
    relay = await world.start(throttle={"rate": "0", "max_connections": 4})
    taken = await flood(world, 300)
    assert await relay.stop(signal.SIGTERM) == 0
    await relay.start()
    await world.drained(60)
    assert Counter(mx.recipients()) == Counter(taken), "an orderly stop doubles nothing either"


async def test_signals_that_go_on_while_it_stops_are_not_noticed(world: World):
    """As from an impatient service manager. Each child's loop closes at its own time: several stops, to meet it."""
    for _ in range(4):
        relay = await world.start(sandbox={"receiver": f"127.0.0.1:{free_port()}"})
        children = children_of(relay)
        assert len(children) == 2
        stopping = asyncio.create_task(relay.stop(signal.SIGTERM))
        while not stopping.done():
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            await asyncio.sleep(0.0001)
        assert await stopping == 0
    assert "Exception" not in relay.log


async def test_kill_9_in_the_middle_loses_nothing(world: World):
    mx = await world.mx("example.test", content=Delay(0.005))
    relay = await world.start(throttle={"rate": "0", "max_connections": 4})
    flooding = asyncio.create_task(flood(world, 2000))
    await mx.wait(50)
    relay.kill()
    taken = await flooding
    await relay.start()
    await world.drained(60)
    got = Counter(mx.recipients())
    assert taken <= set(got), "every 250 is kept"
    # Four connections that take 5 ms each time; outcomes wait up to 6 ms, and for the commit before theirs.
    assert sum(got.values()) - len(got) <= 4 * 5, "doubled at most what was on the wire or waited for its mark"


async def test_a_worker_that_dies_is_replaced_and_its_mail_goes_on(world: World):
    mx = await world.mx("example.test")
    relay = await world.start(workers=2)
    await world.send("before@example.test")
    await mx.wait(1)
    for pid in children_of(relay):
        os.kill(pid, signal.SIGKILL)
    await relay.greeted()
    await world.send("after@example.test")
    await mx.wait(2)
    assert "child died" in relay.log


async def test_a_second_start_refuses_and_names_the_first(world: World):
    relay = await world.start()
    assert relay.process is not None
    second = await asyncio.to_thread(lambda: relay.run("serve"))
    assert second.returncode == 1
    assert str(relay.process.pid) in second.stderr.decode()
    await relay.greeted()


@pytest.mark.skipif(len(available()) < 2, reason="there is only one CPU")
@pytest.mark.parametrize("pin", [True, False])
async def test_a_busy_worker_stays_on_a_cpu_of_its_own(world: World, pin: bool):
    cpus = available()
    anywhere = {frozenset(cpus)}
    relay = await world.start(
        workers=len(cpus), pin_workers=pin, submission={"trusted_networks": ["127.0.0.0/8"], "max_message_size": "1GiB"}
    )
    workers = children_of(relay)
    assert [cpus_of(pid) for pid in workers] == [anywhere] * len(cpus)
    _, writer = await asyncio.open_connection("127.0.0.1", relay.plain)
    writer.write(b"EHLO c.test\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\n")
    await asyncio.sleep(0.5)
    writer.write(b"DATA\r\n")
    await asyncio.sleep(0.5)
    writer.write(b"Subject: long\r\n\r\n")
    seen: set[frozenset[int]] = set()
    for _ in range(150):
        writer.write(b"some words of a long message\r\n" * 100_000)
        await writer.drain()
        seen |= set().union(*(cpus_of(pid) for pid in workers))
        if pin and seen > anywhere:
            break
    writer.close()
    assert seen - anywhere <= {frozenset({cpu}) for cpu in cpus}
    assert bool(seen - anywhere) is pin
    await until(lambda: all(cpus_of(pid) == anywhere for pid in workers))


async def test_reload_takes_good_settings_and_refuses_bad_ones(world: World):
    mx = await world.mx("example.test")
    relay = await world.start(submission={"trusted_networks": ["127.0.0.0/8"], "max_message_size": "1MiB"})
    assert relay.process is not None
    relay.write_settings(submission={"trusted_networks": ["127.0.0.0/8"], "max_message_size": "oops"})
    os.kill(relay.process.pid, signal.SIGHUP)
    await until(lambda: "reload refused" in relay.log)
    relay.write_settings(submission={"trusted_networks": ["127.0.0.0/8"], "max_message_size": "2MiB"})
    os.kill(relay.process.pid, signal.SIGHUP)
    await until(lambda: "reloaded" in relay.log)
    await announces(relay, 2 << 20)
    for pid in children_of(relay):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: relay.log.count("worker ready") == 2)
    await announces(relay, 2 << 20)  # a worker started later has the new settings too
    await world.send("someone@example.test")
    await mx.wait(1)


async def test_a_transaction_under_way_may_end_after_sigterm(world: World):
    await world.mx("example.test")
    relay = await world.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.plain)
    writer.write(b"EHLO c.test\r\nMAIL FROM:<a@sender.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\n")
    while not (await reader.readline()).startswith(b"354"):
        pass
    stopping = asyncio.create_task(relay.stop(signal.SIGTERM))
    await asyncio.sleep(0.3)
    writer.write(message() + b"\r\n.\r\n")
    assert (await reader.readline()).startswith(b"250")
    writer.close()
    assert await stopping == 0


async def test_admin_commands_steer_a_running_server(world: World):
    mx = await world.mx("example.test", rcpt="450 4.2.1 later")
    relay = await world.start(retry={"schedule": ["1h"], "expire_after": "2d"})
    queue_id = await world.send("someone@example.test")
    await mx.until(lambda: mx.sessions)
    async with asyncio.timeout(10):
        while '"deferred"' not in await relay.command("events", "--id", queue_id, "--json"):
            await asyncio.sleep(0.05)
    await relay.command("queue", "hold", queue_id)
    assert '"held"' in await relay.command("queue", "list", "--json")
    mx.scripts.set("rcpt", "250 2.1.5 ok")
    await relay.command("queue", "release", queue_id)
    async with asyncio.timeout(10):
        while await relay.command("queue", "list", "--json"):
            await asyncio.sleep(0.05)


async def test_a_spelling_evades_no_suspension_and_needs_no_smtputf8(world: World):
    mx = await world.mx("xn--strae-oqa.test", smtputf8=False)
    relay = await world.start()
    await relay.command("suspend", "add", "--domain", "Straße.test")
    for spelling in ("straße.test", "STRAßE。TEST", "XN--STRAE-OQA.test"):
        await world.send(f"a@{spelling}", mail_options=[] if spelling.isascii() else ["SMTPUTF8"])
    listed = await relay.command("queue", "list", "--domain", "straße.test", "--ids")
    assert len(listed.split()) == 3
    for filters in (["--recipient", "a@straße。test"], ["--sender-domain", "sender。test"]):
        assert await relay.command("queue", "list", *filters, "--ids") == listed
    assert not mx.sessions
    await relay.command("suspend", "remove", "--domain", "straße.test")
    await mx.wait(3)
    assert {address.lower() for address in mx.recipients()} == {"a@xn--strae-oqa.test"}
    assert all(line.isascii() for session in mx.sessions for line in session.commands)
    assert len((await relay.command("events", "--address", "a@straße.test", "--kind", "accepted")).splitlines()) == 3


async def test_a_suspended_domain_waits_and_goes_on(world: World):
    mx = await world.mx("example.test")
    relay = await world.start()
    await relay.command("suspend", "add", "--domain", "example.test", "--reason", "maintenance")
    queue_id = await world.send("someone@example.test")
    await asyncio.sleep(0.5)
    assert mx.messages == []
    assert queue_id in await relay.command("queue", "list", "--json")
    listed = json.loads((await relay.command("suspend", "list", "--json")).splitlines()[0])
    await relay.command("suspend", "remove", str(listed["id"]))
    await mx.wait(1)
