"""Upgrade: data folders that earlier releases left, under this one. Each folder of `releases/` is one schema version.

`python -m tests.faults.upgrade` writes the folder of the present version; to be run once, when a version is released.
`tests/queue/test_queue_upgrade.py` opens the same folders; what `_write` stores is what it looks for.
"""

import asyncio
import sys
import time
from pathlib import Path

from relay_queue.ids import new_id
from relay_queue.model import (
    DEFAULT_STREAM,
    LOCAL_NODE,
    Body,
    Entry,
    Mark,
    Message,
    Owner,
    Put,
    Recipient,
    Selection,
    SuspensionKind,
)
from relay_queue.protocol import Action, Queue
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.sqlite.sql import migrations
from relay_queue.states import State
from tests.faults.campaign import row
from tests.support.ledger import Answer, Given, Score
from tests.support.releases import RELEASES, copy_of
from tests.support.stage import stage

_WAITING = 20
_LARGE = 3
"""Which message has its body in a file."""
_HELD, _QUARANTINED = 5, 7
"""Which messages are set aside."""
_STREAM_OF_EVERY_OTHER = "bulk"


@row("the data folder of each earlier schema under this release", rounds=1, segment=1000)
async def upgrade(folder: Path, rounds: int, seed: int) -> Score:
    total = Score()
    for release in sorted(RELEASES.iterdir()):
        place = folder / release.name
        place.mkdir()
        data = copy_of(int(release.name.rpartition("-")[2]), place / "data")
        await asyncio.to_thread(_release, data)
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


def _release(data: Path) -> None:
    """Release what was set aside, so that everything is to be delivered."""
    admin = open_admin(data)
    admin.steer(Action.RELEASE, Selection(states=(State.HELD, State.QUARANTINED)), now=time.time())
    admin.close()


async def _write(target: Path) -> None:
    """A folder as a killed server leaves it: recipients in every state, one large body, every field in use."""
    queue, admin = open_queue(target), open_admin(target)
    owner = await queue.lease(LOCAL_NODE, 0)
    for n in range(_WAITING + 5):
        await _write_one(queue, owner, n)
    admin.steer(Action.HOLD, Selection(sender=_sender(_HELD)), now=time.time(), reason="please wait")
    admin.suspend(SuspensionKind.DOMAIN, "stopped.test", "asked by their postmaster", None, time.time())
    admin.close()
    await queue.aclose()


def _sender(n: int) -> str:
    return f"s-old-{n}@back.test"


async def _write_one(queue: Queue, owner: Owner, n: int) -> None:
    now = time.time()
    body = Body(b"Subject: old\r\n\r\nStill to be delivered.\r\n")
    if n == _LARGE:
        file = queue.new_file()
        file.write(b"x" * 68 + b"\r\n")
        body = Body(b"Subject: old and large\r\n\r\n", Path(file.name).name, 70)
    message = Message(id=new_id(), received_at=now, sender=_sender(n), size=len(body.head) + body.file_size)
    if n % 2:
        message.stream = _STREAM_OF_EVERY_OTHER
        message.tags = ("welcome", "été")
        message.metadata = {"order": str(n)}
        message.idempotency_key = f"key-{n}"
        message.header_id = f"<old-{n}@back.test>"
        message.not_before, message.expires_at = now - 1, now + 1e9
    claimed = n % 2 == 0 or n in {_HELD, _QUARANTINED} or n >= _WAITING
    recipient = Recipient(
        message_id=message.id,
        n=0,
        address=_address(n),
        domain=_address(n).rpartition("@")[2],
        stream=_STREAM_OF_EVERY_OTHER if n % 2 else DEFAULT_STREAM,
        due_at=now,
        changed_at=now,
        state=State.ACTIVE if claimed else State.QUEUED,
        owner=owner.lease if claimed else None,
    )
    await queue.put(Put(Entry(message, [recipient]), body))
    state = {_HELD: State.QUEUED, _QUARANTINED: State.QUARANTINED}.get(n, State.DELIVERED if n >= _WAITING else None)
    if state is not None:
        mark = Mark(
            message_id=message.id,
            n=0,
            owner=owner.lease,
            state=state,
            at=now,
            due_at=now,
            attempts=1,
            remote="mx.test[192.0.2.1]:25",
        )
        assert await queue.mark([mark]) == []


if __name__ == "__main__":
    folder = RELEASES / f"schema-{len(migrations()):04}"
    if folder.exists():
        sys.exit(f"{folder} is there already")
    asyncio.run(_write(folder))
    for lock in folder.glob("*.lock"):
        lock.unlink()
