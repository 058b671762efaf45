"""A worker hangs while it has the turn to write: clients of the others have an answer, and it is true."""

import asyncio
import smtplib
import time

from relay_queue.sqlite.connect import TurnLock
from tests.support.running import Relay
from tests.support.world import World, message


def answer(relay: Relay, to: str) -> tuple[int, float]:
    """The code of the reply to a message, and how long it took."""
    with smtplib.SMTP("127.0.0.1", relay.plain, timeout=60) as client:
        client.ehlo()
        client.mail("app@sender.test")
        client.rcpt(to)
        began = time.monotonic()
        code, _ = client.data(message(to))
        return code, time.monotonic() - began


async def test_others_are_answered_451_within_five_seconds(world: World):
    mx = await world.mx("example.test")
    relay = await world.start(workers=2, throttle={"rate": "0", "connection_rate": "0"})
    assert (await asyncio.to_thread(answer, relay, "before@example.test"))[0] == 250
    hung = TurnLock(relay.data_dir)  # as of a worker that was stopped in its turn
    with hung:
        answers = await asyncio.gather(*(asyncio.to_thread(answer, relay, f"u{n}@example.test") for n in range(6)))
        answers += await asyncio.gather(*(asyncio.to_thread(answer, relay, f"v{n}@example.test") for n in range(3)))
    hung.close()
    assert {code for code, _ in answers} == {451}
    assert max(took for _, took in answers) < 5
    assert (await asyncio.to_thread(answer, relay, "after@example.test"))[0] == 250
    await mx.wait(2)
    await world.drained(30)
    assert sorted(mx.recipients()) == ["after@example.test", "before@example.test"], "what was refused is not sent"
    assert "child died" not in relay.log
