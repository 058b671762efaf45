"""Makes queues of every backend, and messages, marks and claims for them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay_queue.ids import new_id
from relay_queue.memory import MemoryAdmin, MemoryQueue, Store
from relay_queue.model import LOCAL_NODE, Body, Entry, Mark, Message, Owner, Put, Recipient
from relay_queue.protocol import Admin, Queue
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.states import State

NOW = 1_800_000_000.0
_clock = itertools.count()


@dataclass
class Pair:
    """Both interfaces of one queue."""

    queue: Queue
    admin: Admin
    again: Callable[[], Queue]
    """Another server's interface to the same queue."""

    async def aclose(self) -> None:
        """Close both."""
        self.admin.close()
        await self.queue.aclose()


def open_pair(kind: str, folder: Path) -> Pair:
    """A queue of the backend `kind` in a folder that need not exist."""
    if kind == "memory":
        store = Store(folder)
        return Pair(MemoryQueue(store), MemoryAdmin(store), lambda: MemoryQueue(store))
    return Pair(open_queue(folder), open_admin(folder), lambda: open_queue(folder))


def a_put(*addresses: str, body: bytes = b"Subject: x\r\n\r\nhello\r\n", recipient: Any = None, **fields: Any) -> Put:
    """A message to some addresses; `recipient` are fields of each recipient, the others are the message's."""
    received_at = fields.pop("received_at", NOW + next(_clock) / 1000)
    message = Message(
        id=new_id(received_at),
        received_at=received_at,
        sender=fields.pop("sender", "from@sender.test"),
        size=fields.pop("size", len(body)),
        **fields,
    )
    recipients = [
        Recipient(
            message_id=message.id,
            n=n,
            address=address,
            domain=address.rpartition("@")[2],
            **{"due_at": NOW, "changed_at": received_at, **(recipient or {})},
        )
        for n, address in enumerate(addresses or ("to@example.test",))
    ]
    return Put(Entry(message, recipients), Body(body))


def in_hand(*addresses: str, owner: int = 1, **fields: Any) -> Put:
    """A message whose recipients a worker has claimed from the start, under a lease of the worker's number."""
    return a_put(*addresses, recipient={"state": State.ACTIVE, "owner": owner}, **fields)


def a_mark(put: Put, state: State, n: int = 0, **fields: Any) -> Mark:
    """What worker 1 says became of a recipient."""
    given = {"owner": 1, "at": NOW + 10, "attempts": 1, "reply": "250 2.0.0 ok", **fields}
    return Mark(message_id=put.entry.message.id, n=n, state=state, **given)


def worker(number: int) -> Owner:
    """The owner that a worker of `open_pair`'s queue is, until it registers again: its lease has the same number."""
    return Owner(LOCAL_NODE, number, number)


async def register(queue: Queue, workers: int = 3) -> None:
    """Register workers 1 to `workers` with a new queue, so that `worker` names them."""
    for number in range(1, workers + 1):
        assert await queue.lease(LOCAL_NODE, number) == worker(number)


def exists(path: Path | str) -> bool:
    """Whether a file is there (its own function, as tests are coroutines and touch the disk on purpose)."""
    return Path(path).exists()
