"""The queue in plain dictionaries: a small real one, for tests and for reading what the other backends must do.

`Store` holds the data and the rules; `MemoryQueue` and `MemoryAdmin` are its two faces. Large bodies are real files.
Nothing outlives the process but those files, so it must not serve where 250 means on disk.
"""

import asyncio
import itertools
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from relay_queue.bodies import Bodies, SpoolFile
from relay_queue.decide import check_mark, check_put, given_back, settle, steered, wished
from relay_queue.matching import matches
from relay_queue.model import (
    Body,
    Ended,
    Entry,
    Mark,
    Message,
    Put,
    Recipient,
    Selection,
    Steered,
    Summary,
    Suspension,
)
from relay_queue.protocol import Action, BodyDamagedError, QueueError
from relay_queue.states import FINAL, State

_DRY_RUN_ENTRIES = 1000


class Store:
    """The data of one queue in memory, shared by its faces."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._bodies: Bodies | None = None
        self.messages: dict[str, Message] = {}
        self.recipients: dict[str, dict[int, Recipient]] = {}
        self.wishes: dict[tuple[str, int], Action] = {}
        self.heads: dict[str, tuple[Body, int]] = {}
        self.arriving: dict[str, SpoolFile] = {}
        self.ended: list[Ended] = []
        self.suspensions: dict[int, Suspension] = {}
        self.numbers = itertools.count(1)

    @property
    def bodies(self) -> Bodies:
        """The folder of large bodies, made when the first one comes."""
        if self._bodies is None:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="relay-queue-"))
            self._bodies = Bodies(self._folder)
        return self._bodies

    def put(self, put: Put) -> None:
        """Store a message."""
        message, body = put.entry.message, put.body
        if message.id in self.messages:
            raise QueueError(f"{message.id} is stored already")
        if body.file is not None:
            file = self.arriving.pop(body.file, None)
            if file is None or file.size != body.file_size:
                raise QueueError(f"{body.file} is no file of {body.file_size} octets that just arrived")
            self.bodies.keep(file)
            body = replace(body, file_crc=file.crc)
        self.messages[message.id] = replace(message)
        self.recipients[message.id] = {recipient.n: replace(recipient) for recipient in put.entry.recipients}
        self.heads[message.id] = (body, zlib.crc32(body.head))

    def live(self) -> Iterator[Recipient]:
        """Every live recipient, oldest message first."""
        for message_id in sorted(self.recipients):
            yield from (self.recipients[message_id][n] for n in sorted(self.recipients[message_id]))

    def mark(self, mark: Mark) -> bool:
        """Record an outcome; False when it is refused."""
        recipient = self.recipients.get(mark.message_id, {}).get(mark.n)
        if recipient is None:
            return False
        wish = self.wishes.get((mark.message_id, mark.n))
        state = settle(recipient.state, recipient.owner, wish, mark)
        if state is None:
            return False
        recipient.attempts = mark.attempts
        recipient.lane = mark.lane or recipient.lane
        if state is State.DELIVERED:
            recipient.reply, recipient.failure = mark.reply, None
        else:
            recipient.reply, recipient.failure = mark.reply or recipient.reply, mark.failure or recipient.failure
        recipient.delay_notified |= mark.delay_notified
        self.move(recipient, state, mark.at, due_at=mark.due_at, remote=mark.remote)
        return True

    def move(self, recipient: Recipient, state: State, at: float, *, due_at: float, remote: str | None = None) -> None:
        """Bring a recipient into a state, or to its end."""
        self.wishes.pop((recipient.message_id, recipient.n), None)
        recipient.state, recipient.owner, recipient.changed_at = state, None, at
        if state is State.QUEUED:
            recipient.due_at = due_at
        if state in FINAL:
            self._end(recipient, remote)

    def _end(self, recipient: Recipient, remote: str | None) -> None:
        message = self.messages[recipient.message_id]
        self.ended.append(
            Ended(
                message_id=message.id,
                n=recipient.n,
                address=recipient.address,
                domain=recipient.domain,
                sender=message.sender,
                user=message.user,
                size=message.size,
                received_at=message.received_at,
                ended_at=recipient.changed_at,
                state=recipient.state,
                attempts=recipient.attempts,
                reply=recipient.reply,
                failure=recipient.failure,
                lane=recipient.lane,
                remote=remote,
            )
        )
        live = self.recipients[message.id]
        del live[recipient.n]
        if not live:
            body, _ = self.heads.pop(message.id)
            del self.recipients[message.id], self.messages[message.id]
            if body.file is not None:
                self.bodies.remove(body.file)

    def head(self, message_id: str) -> Body:
        """The stored body."""
        body, crc = self.heads.get(message_id, (None, 0))
        if body is None:
            raise BodyDamagedError(f"{message_id} has no body")
        if zlib.crc32(body.head) != crc:
            raise BodyDamagedError(f"the body of {message_id} is not what was stored")
        return body


class MemoryQueue:
    """`protocol.Queue` on a `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._closed = False

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

    async def withdrawn(self, owner: int) -> list[tuple[str, int, Action]]:
        """See `Queue.withdrawn`."""
        self._ready()
        return sorted(
            (
                (message_id, n, wish)
                for (message_id, n), wish in self._store.wishes.items()
                if self._store.recipients[message_id][n].owner == owner
            ),
            key=lambda row: row[:2],
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
        """See `Queue.failed`: memory does not fail."""
        return None

    async def aclose(self) -> None:
        """See `Queue.aclose`."""
        self._closed = True


class MemoryAdmin:
    """`protocol.Admin` on a `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def select(self, selection: Selection, limit: int | None = 100) -> Iterator[Entry]:
        """See `Admin.select`."""
        return itertools.islice(self._entries(selection), limit)

    def _entries(self, selection: Selection) -> Iterator[Entry]:
        for message_id in sorted(self._store.messages):
            message = self._store.messages.get(message_id)
            if message is None:
                continue
            live = self._store.recipients[message_id]
            found = [replace(live[n]) for n in sorted(live) if matches(selection, message, live[n])]
            if found:
                yield Entry(replace(message), found)

    def summary(self, selection: Selection) -> list[Summary]:
        """See `Admin.summary`."""
        domains: dict[str, Summary] = {}
        for entry in self._entries(selection):
            for recipient in entry.recipients:
                row = domains.setdefault(recipient.domain, Summary(domain=recipient.domain))
                setattr(row, recipient.state.word, getattr(row, recipient.state.word) + 1)
                received_at = entry.message.received_at
                row.oldest = received_at if row.oldest is None else min(row.oldest, received_at)
                if recipient.state is State.QUEUED:
                    row.next_due = recipient.due_at if row.next_due is None else min(row.next_due, recipient.due_at)
        return sorted(
            domains.values(), key=lambda row: (-(row.queued + row.active + row.held + row.quarantined), row.domain)
        )

    def show(self, message_id: str) -> Entry | None:
        """See `Admin.show`."""
        return next(self._entries(Selection(ids=(message_id,))), None) if message_id in self._store.messages else None

    def ended(self, message_id: str | None = None, address: str | None = None, limit: int = 100) -> list[Ended]:
        """See `Admin.ended`."""
        wanted = None if address is None else address.lower()
        found = (
            replace(ended)
            for ended in reversed(self._store.ended)
            if message_id in {None, ended.message_id} and wanted in {None, ended.address.lower(), ended.sender.lower()}
        )
        return list(itertools.islice(found, limit))

    def body(self, message_id: str) -> Iterator[bytes]:
        """See `Admin.body`."""
        if message_id not in self._store.messages:
            raise KeyError(message_id)
        body = self._store.head(message_id)
        return iter([body.head]) if body.file is None else self._store.bodies.blocks(body)

    def steer(
        self,
        action: Action,
        selection: Selection,
        *,
        now: float,
        reply: str | None = None,
        notice: Callable[[Entry], Put | None] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> Steered:
        """See `Admin.steer`."""
        done = Steered()
        for entry in list(self._entries(selection)):
            touched = [recipient for recipient in entry.recipients if self._touched(action, recipient)]
            touched = touched if limit is None else touched[: limit - done.recipients]
            if not touched:
                continue
            done.messages += 1
            done.recipients += len(touched)
            done.requested += sum(recipient.state is State.ACTIVE for recipient in touched)
            ending = [replace(recipient) for recipient in touched if recipient.state is not State.ACTIVE]
            if not dry_run:
                for recipient in touched:
                    self._steer_one(action, recipient, now, reply)
                if action is Action.FAIL and notice is not None and ending:
                    for recipient in ending:
                        recipient.reply = reply or recipient.reply
                    put = notice(Entry(entry.message, ending))
                    if put is not None:
                        self.put(put)
            if action is Action.FAIL or dry_run:
                shown = touched if dry_run else ending
                if shown and (not dry_run or len(done.entries) < _DRY_RUN_ENTRIES):
                    done.entries.append(Entry(entry.message, shown))
        return done

    def _touched(self, action: Action, recipient: Recipient) -> bool:
        if recipient.state is State.ACTIVE:
            wish = self._store.wishes.get((recipient.message_id, recipient.n))
            return wished(action, wish) is not wish
        return steered(action, recipient.state) is not None

    def _steer_one(self, action: Action, found: Recipient, now: float, reply: str | None) -> None:
        recipient = self._store.recipients[found.message_id][found.n]
        key = (recipient.message_id, recipient.n)
        if recipient.state is State.ACTIVE:
            wish = wished(action, self._store.wishes.pop(key, None))
            if wish is not None:
                self._store.wishes[key] = wish
            return
        state = steered(action, recipient.state)
        assert state is not None, "only recipients that the action touches are steered"
        recipient.reply = reply or recipient.reply
        self._store.move(recipient, state, now, due_at=now)

    def put(self, put: Put) -> None:
        """See `Admin.put`."""
        check_put(put)
        self._store.put(put)

    def suspend(self, kind: str, value: str, reason: str, until: float | None, now: float) -> Suspension:
        """See `Admin.suspend`."""
        suspension = Suspension(
            id=next(self._store.numbers), kind=kind, value=value, reason=reason, created_at=now, until=until
        )
        self._store.suspensions[suspension.id] = suspension
        return suspension

    def resume(self, suspension_ids: Sequence[int]) -> int:
        """See `Admin.resume`."""
        return sum(self._store.suspensions.pop(number, None) is not None for number in set(suspension_ids))

    def suspensions(self) -> Sequence[Suspension]:
        """See `Admin.suspensions`."""
        return list(self._store.suspensions.values())

    def close(self) -> None:
        """See `Admin.close`."""
