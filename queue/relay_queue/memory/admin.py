"""The shell's interface to a queue in memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from relay_queue.decide import check_put, pending_after, steered
from relay_queue.matching import matches
from relay_queue.memory.store import Store
from relay_queue.model import (
    Destination,
    Ended,
    Entry,
    Integrity,
    Put,
    Recipient,
    Selection,
    Steered,
    Summary,
    Suspension,
    SuspensionKind,
)
from relay_queue.protocol import Action
from relay_queue.states import State

_SHOWN = 1000


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

    def due_times(self, destination: Destination, now: float, limit: int, *, tried: bool) -> list[float]:
        """See `Admin.due_times`."""
        found = [
            recipient.due_at
            for recipient in self._store.live()
            if recipient.state is State.QUEUED
            and recipient.destination == destination
            and (recipient.attempts > 0) is tried
        ]
        return sorted(due_at for due_at in found if due_at <= now)[:limit]

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
        reason: str | None = None,
        notice: Callable[[Entry], Put | None] | None = None,
        dry_run: bool = False,
        limit: int | None = None,
    ) -> Steered:
        """See `Admin.steer`."""
        done = Steered()
        for entry in list(self._entries(selection)):
            room = None if limit is None else limit - done.recipients
            touched = [recipient for recipient in entry.recipients if self._touched(action, recipient)][:room]
            if not touched:
                continue
            done.messages += 1
            done.recipients += len(touched)
            done.requested += sum(recipient.state is State.ACTIVE for recipient in touched)
            touched = [replace(recipient, reason=reason) for recipient in touched]
            ending = Entry(entry.message, [found for found in touched if found.state is not State.ACTIVE])
            if not dry_run:
                # Build the DSN before the change: the body is deleted with a message's last recipient.
                put = notice(ending) if notice is not None and action is Action.FAIL and ending.recipients else None
                for recipient in touched:
                    self._steer_one(action, recipient, now, reason)
                if put is not None:
                    self.put(put)
            shown = Entry(entry.message, touched) if dry_run else ending
            if shown.recipients and len(done.entries) < _SHOWN:
                done.entries.append(shown)
        return done

    def _touched(self, action: Action, recipient: Recipient) -> bool:
        if recipient.state is State.ACTIVE:
            pending = self._store.pending.get((recipient.message_id, recipient.n))
            return pending_after(action, pending) is not pending
        return steered(action, recipient.state) is not None

    def _steer_one(self, action: Action, found: Recipient, now: float, reason: str | None) -> None:
        recipient = self._store.recipients[found.message_id][found.n]
        key = (recipient.message_id, recipient.n)
        if action is not Action.FLUSH:
            recipient.reason = reason
        if recipient.state is State.ACTIVE:
            pending = pending_after(action, self._store.pending.pop(key, None))
            if pending is not None:
                self._store.pending[key] = pending
            return
        state = steered(action, recipient.state)
        assert state is not None, "only recipients that the action touches are steered"
        self._store.move(recipient, state, now, due_at=now)

    def put(self, put: Put) -> None:
        """See `Admin.put`."""
        check_put(put)
        self._store.put(put)

    def suspend(self, kind: SuspensionKind, value: str, reason: str, until: float | None, now: float) -> Suspension:
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

    def integrity(self, seconds: float) -> Integrity:  # noqa: ARG002 - the signature is that of Admin
        """See `Admin.integrity`. A queue in memory is never damaged."""
        return Integrity(faults=(), whole=True)

    def close(self) -> None:
        """See `Admin.close`."""
