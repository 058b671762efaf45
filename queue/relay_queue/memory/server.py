"""The server's face of a queue in memory."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from relay_queue.decide import check_mark, check_put, given_back
from relay_queue.memory.store import Store
from relay_queue.model import Body, Entry, Mark, Put, Suspension
from relay_queue.protocol import QueueError, Wish
from relay_queue.states import State


class MemoryQueue:
    """`protocol.Queue` on a `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closed = False
        self._damage: str | None = None

    def _ready(self) -> asyncio.AbstractEventLoop:
        if self._closed:
            raise QueueError("the queue is closed")
        return asyncio.get_running_loop()

    def put(self, put: Put) -> asyncio.Future[None]:
        """See `Queue.put`."""
        check_put(put)
        future: asyncio.Future[None] = self._ready().create_future()
        try:
            self._store.put(put)
        except QueueError as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def mark(self, marks: Sequence[Mark], notices: Sequence[Put] = ()) -> asyncio.Future[list[Mark]]:
        """See `Queue.mark`."""
        for mark in marks:
            check_mark(mark)
        future: asyncio.Future[list[Mark]] = self._ready().create_future()
        taken = {notice.entry.message.id for notice in notices} & self._store.messages.keys()
        if taken:
            future.set_exception(QueueError(f"{taken} is stored already"))
            return future
        refused = [mark for mark in marks if not self._store.mark(mark)]
        if not marks or len(refused) < len(marks):
            for notice in notices:
                check_put(notice)
                self._store.put(notice)
        future.set_result(refused)
        return future

    async def claim(self, owner: int, domain: str, limit: int, now: float) -> list[Entry]:
        """See `Queue.claim`."""
        self._ready()
        found = [
            recipient
            for recipient in self._store.live()
            if recipient.state is State.QUEUED and recipient.domain == domain and recipient.due_at <= now
        ]
        found.sort(key=lambda recipient: (recipient.attempts > 0, recipient.due_at))
        entries: dict[str, Entry] = {}
        for recipient in found[:limit]:
            recipient.state, recipient.owner = State.ACTIVE, owner
            message = self._store.messages[recipient.message_id]
            entry = entries.setdefault(message.id, Entry(replace(message), []))
            entry.recipients.append(replace(recipient))
        return list(entries.values())

    async def due(
        self,
        now: float,  # noqa: ARG002 -- of the protocol: a backend may use it to skip what is far off
        after: str,
        limit: int,
    ) -> list[tuple[str, float]]:
        """See `Queue.due`."""
        self._ready()
        earliest: dict[str, float] = {}
        for recipient in self._store.live():
            if recipient.state is State.QUEUED and recipient.domain > after:
                known = earliest.get(recipient.domain, recipient.due_at)
                earliest[recipient.domain] = min(known, recipient.due_at)
        return sorted(earliest.items())[:limit]

    async def hasten(self, untried: float, tried: float, due_at: float) -> int:
        """See `Queue.hasten`."""
        self._ready()
        found = [
            recipient
            for recipient in self._store.live()
            if recipient.state is State.QUEUED and recipient.due_at > (tried if recipient.attempts else untried)
        ]
        for recipient in found:
            recipient.due_at = due_at
        return len(found)

    async def recover(self, owner: int | None) -> int:
        """See `Queue.recover`."""
        self._ready()
        found = [
            recipient
            for recipient in self._store.live()
            if recipient.state is State.ACTIVE and (owner is None or recipient.owner == owner)
        ]
        for recipient in found:
            state = given_back(self._store.wishes.get((recipient.message_id, recipient.n)))
            self._store.move(recipient, state, recipient.changed_at, due_at=recipient.due_at)
        if owner is None:
            self._store.bodies.sweep({body.file for body, _ in self._store.heads.values() if body.file is not None})
        return len(found)

    async def withdrawn(self, owner: int) -> list[Wish]:
        """See `Queue.withdrawn`."""
        self._ready()
        return sorted(
            (
                Wish(message_id, n, wish, self._store.recipients[message_id][n].reason)
                for (message_id, n), wish in self._store.wishes.items()
                if self._store.recipients[message_id][n].owner == owner
            ),
            key=lambda wish: (wish.message_id, wish.n),
        )

    async def head(self, message_id: str) -> Body:
        """See `Queue.head`."""
        self._ready()
        return self._store.head(message_id)

    def open_file(self, body: Body) -> BinaryIO:
        """See `Queue.open_file`."""
        return self._store.bodies.open(body)

    def new_file(self) -> BinaryIO:
        """See `Queue.new_file`."""
        file = self._store.bodies.new()
        self._store.arriving[file.path.name] = file
        return file

    def discard_file(self, file: BinaryIO) -> None:
        """See `Queue.discard_file`."""
        self._store.arriving.pop(Path(file.name).name, None)
        self._store.bodies.discard(file)

    async def suspensions(self) -> list[Suspension]:
        """See `Queue.suspensions`."""
        self._ready()
        return list(self._store.suspensions.values())

    async def prune(self, ended_before: float, limit: int = 1000) -> int:
        """See `Queue.prune`."""
        self._ready()
        oldest, rest = self._store.ended[:limit], self._store.ended[limit:]
        kept = [ended for ended in oldest if ended.ended_at >= ended_before]
        self._store.ended = kept + rest
        return len(oldest) - len(kept)

    def damaged(self) -> str | None:
        """See `Queue.damaged`. Memory is not damaged by itself; a test may say so."""
        return self._damage

    def note_damage(self, what: str) -> None:
        """See `Queue.note_damage`."""
        self._damage = self._damage or what

    def failed(self) -> str | None:
        """See `Queue.failed`: memory does not fail."""
        return None

    async def aclose(self) -> None:
        """See `Queue.aclose`."""
        self._closed = True
