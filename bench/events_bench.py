"""What an event costs the event loop: `python -m bench.events_bench`. Budget: 5 µs for log and store together."""

import asyncio
import gc
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Literal

from relay.events.log import EventLog
from relay.model.peer import Identity, Peer
from relay_config.schema import Log, Settings
from relay_queue.model import Entry, Mark, Message, Recipient
from relay_queue.states import State

EVENTS = 50_000
RUNS = 5


def sample(number: int = 0) -> tuple[Entry, Peer, Mark]:
    """A typical message, its client, and its delivery; ids and recipients differ by number."""
    message = Message(
        id=f"0abcdefghijklmnopq{number:08}", received_at=1.0e9, sender="news@example.com", size=4096, user="app"
    )
    recipient = Recipient(message_id=message.id, n=0, address=f"someone{number}@example.org", domain="example.org")
    peer = Peer(
        address="192.0.2.10", port=40000, listener="0.0.0.0:587", helo="app.example.com", identity=Identity("app")
    )
    mark = Mark(
        message_id=message.id,
        n=0,
        owner=0,
        state=State.DELIVERED,
        at=1.0e9 + 1.5,
        attempts=1,
        reply="250 2.0.0 Ok: queued as 4XyZ12345",
        lane="mx1.example.org,mx2.example.org",
        remote="mx1.example.org[192.0.2.25]:25",
    )
    return Entry(message, [recipient]), peer, mark


async def measure(form: Literal["logfmt", "json"], folder: Path) -> float:
    """CPU microseconds of the loop's thread per event, half accepted and half delivered."""
    settings = Settings(
        hostname="mail.example.com", data_dir=str(folder), log=Log(format=form, destination=str(folder / "log"))
    )
    log = EventLog(settings, "0")
    spent = 0.0
    for batch in range(EVENTS // 100):
        samples = [sample(batch * 50 + n) for n in range(50)]
        gc.collect(0)
        began = time.thread_time()
        for entry, peer, mark in samples:
            log.accepted(entry, peer)
            log.outcome(entry.message, entry.recipients[0], mark)
        spent += time.thread_time() - began
        await asyncio.sleep(0.001)
    log.close()
    return spent / EVENTS * 1e6


def main() -> None:
    """Print medians."""
    forms: tuple[Literal["logfmt", "json"], ...] = ("logfmt", "json")
    for form in forms:
        with tempfile.TemporaryDirectory() as folder:
            runs = [asyncio.run(measure(form, Path(folder))) for _ in range(RUNS)]
            size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        middle, least, most = statistics.median(runs), min(runs), max(runs)
        print(f"{form:7} {middle:5.2f} µs an event ({least:.2f}-{most:.2f}), {size / RUNS / EVENTS:.0f} octets")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
