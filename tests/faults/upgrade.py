"""Upgrade: data folders that earlier releases left, under this one. Each folder of `releases/` is one schema version.

`python -m tests.faults.upgrade` writes the folder of the present version; to be run once, when a version is released.
"""

import asyncio
import shutil
import sys
import time
from pathlib import Path

from relay_queue.ids import new_id
from relay_queue.model import Body, Entry, Mark, Message, Put, Recipient
from relay_queue.sqlite import open_queue
from relay_queue.sqlite.sql import migrations
from relay_queue.states import State
from tests.faults.campaign import row
from tests.support.ledger import Answer, Given, Score
from tests.support.stage import stage

RELEASES = Path(__file__).parent / "releases"
_WAITING = 20
_LARGE = 3
"""Which message has its body in a file."""


@row("the data folder of each earlier schema under this release", rounds=1, segment=1000)
async def upgrade(folder: Path, rounds: int, seed: int) -> Score:
    total = Score()
    for release in sorted(RELEASES.iterdir()):
        place = folder / release.name
        shutil.copytree(release, place / "data")
        for path in [place / "data", *(place / "data").rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
        async with stage(place, seed=seed) as on:
            for n in range(_WAITING):
                on.ledger.given[f"old-{n}"] = Given(f"old-{n}", (_address(n),), Answer.TAKEN, f"250 {n}")
            await on.begin(retry={"expire_after": "3650d", "schedule": ["1s"]})
            on.events += 1
            await on.answering()
            total += await on.settle()
    return total


def _address(n: int) -> str:
    return f"ok-old-{n}@d{n % 8}.test"


async def _write(target: Path) -> None:
    """A folder as a killed server leaves it: recipients that wait, some in hand, some at their end; one large body."""
    queue = open_queue(target)
    for n in range(_WAITING + 5):
        now = time.time()
        body = Body(b"Subject: old\r\n\r\nStill to be delivered.\r\n")
        if n == _LARGE:
            file = queue.new_file()
            file.write(b"x" * 68 + b"\r\n")
            body = Body(b"Subject: old and large\r\n\r\n", Path(file.name).name, 70)
        size = len(body.head) + body.file_size
        message = Message(id=new_id(), received_at=now, sender=f"s-old-{n}@back.test", size=size)
        in_hand = n % 2 == 0 or n >= _WAITING
        recipient = Recipient(
            message_id=message.id,
            n=0,
            address=_address(n),
            domain=_address(n).rpartition("@")[2],
            due_at=now,
            changed_at=now,
            state=State.ACTIVE if in_hand else State.QUEUED,
            owner=0 if in_hand else None,
        )
        await queue.put(Put(Entry(message, [recipient]), body))
        if n >= _WAITING:
            mark = Mark(message_id=message.id, n=0, owner=0, state=State.DELIVERED, at=now, attempts=1)
            assert await queue.mark([mark]) == []
    await queue.aclose()


if __name__ == "__main__":
    folder = RELEASES / f"schema-{len(migrations()):04}"
    if folder.exists():
        sys.exit(f"{folder} is there already")
    asyncio.run(_write(folder))
    for lock in folder.glob("*.lock"):
        lock.unlink()
