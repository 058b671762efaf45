"""The server's interface to a queue in memory."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from relay_queue.decide import check_mark, check_put, given_back
from relay_queue.memory.store import Store
from relay_queue.model import Body, Destination, Entry, Mark, Owner, Put, Suspension
from relay_queue.protocol import PendingAction, QueueError
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

    async def lease(self, node: str, worker: int) -> Owner:
        """See `Queue.lease`."""
        self._ready()
        owner = Owner(node, worker, next(self._store.numbers))
        self._store.leases[owner.lease] = owner
        return owner

    async def claim(self, owner: Owner, destination: Destination, limit: int, now: float) -> list[Entry]:
        """See `Queue.claim`."""
        self._ready()
        found = [
            recipient
            for recipient in self._store.live()
            if recipient.state is State.QUEUED and recipient.destination == destination and recipient.due_at <= now
        ]
        found.sort(key=lambda recipient: (recipient.attempts > 0, recipient.due_at))
        entries: dict[str, Entry] = {}
        for recipient in found[:limit]:
            recipient.state, recipient.owner = State.ACTIVE, owner.lease
            message = self._store.messages[recipient.message_id]
            entry = entries.setdefault(message.id, Entry(replace(message), []))
            entry.recipients.append(replace(recipient))
        return list(entries.values())

    async def due(
        self,
        now: float,  # noqa: ARG002 -- part of the protocol: a backend may use it to skip what is far off
        after: Destination | None,
        limit: int,
    ) -> list[tuple[Destination, float]]:
        """See `Queue.due`."""
        self._ready()
        earliest: dict[Destination, float] = {}
        for recipient in self._store.live():
            key = recipient.destination
            if recipient.state is State.QUEUED and (after is None or key > after):
                earliest[key] = min(earliest.get(key, recipient.due_at), recipient.due_at)
        return sorted(earliest.items())[:limit]

    async def bring_forward(self, untried: float, tried: float, due_at: float) -> int:
        """See `Queue.bring_forward`."""
        self._ready()
        found = [
            recipient
            for recipient in self._store.live()
            if recipient.state is State.QUEUED
            and recipient.due_at > (tried if recipient.attempts else untried)
            and recipient.due_at > (self._store.messages[recipient.message_id].not_before or 0)
        ]
        for recipient in found:
            recipient.due_at = due_at
        return len(found)

    async def recover(self, owner: Owner) -> int:
        """See `Queue.recover`."""
        self._ready()
        return self._give_back(
            each
            for each in list(self._store.leases.values())
            if (each.node, each.worker) == (owner.node, owner.worker) and each != owner
        )

    async def recover_node(self, node: str) -> int:
        """See `Queue.recover_node`."""
        self._ready()
        ended = [each for each in self._store.leases.values() if each.node == node]
        # No worker owns recipients whose lease no longer exists, so give them back too.
        unknown = {found.owner for found in self._store.live() if found.owner is not None} - self._store.leases.keys()
        count = self._give_back([*ended, *(Owner(node, 0, lease) for lease in unknown)])
        self._store.bodies.sweep({body.file for body, _ in self._store.heads.values() if body.file is not None})
        return count

    def _give_back(self, owners: Iterable[Owner]) -> int:
        count = 0
        for owner in owners:
            self._store.leases.pop(owner.lease, None)
            for recipient in list(self._store.live()):
                if recipient.owner == owner.lease:
                    state = given_back(self._store.pending.get((recipient.message_id, recipient.n)))
                    self._store.move(recipient, state, recipient.changed_at, due_at=recipient.due_at)
                    count += 1
        return count

    async def pending_actions(self, owner: Owner) -> list[PendingAction]:
        """See `Queue.pending_actions`."""
        self._ready()
        return sorted(
            (
                PendingAction(message_id, n, action, self._store.recipients[message_id][n].reason)
                for (message_id, n), action in self._store.pending.items()
                if self._store.recipients[message_id][n].owner == owner.lease
            ),
            key=lambda pending: (pending.message_id, pending.n),
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

    def failed(self) -> str | None:
        """See `Queue.failed`. A queue in memory never fails."""
        return None

    def damaged(self) -> str | None:
        """See `Queue.damaged`. Only `note_damage`, called by a test, sets it."""
        return self._damage

    def note_damage(self, what: str) -> None:
        """See `Queue.note_damage`."""
        self._damage = self._damage or what

    async def aclose(self) -> None:
        """See `Queue.aclose`."""
        self._closed = True
