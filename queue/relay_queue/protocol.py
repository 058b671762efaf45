"""What the relay asks of a queue. Backends are siblings named by medium: `relay_queue.sqlite`, `relay_queue.memory`.

There are two interfaces. `Queue` is the server's: asynchronous, batched, called thousands of times a second; nothing it
does may block the event loop. `Admin` is the shell's: synchronous, on the same data, whether or not a server runs. The
same tests run against every backend (`tests/queue/`).

Who may recover whose work: a worker registers with `lease` and gives back only what earlier leases of the same node
and worker number hold (`recover`). Everything that a node holds is given back by `recover_node`, which only the holder
of the lock on the node's data folder may call, before it starts workers.
"""

import asyncio
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Protocol

import msgspec

from relay_queue.model import (
    Body,
    Destination,
    Ended,
    Entry,
    Integrity,
    Mark,
    Owner,
    Put,
    Selection,
    Steered,
    Summary,
    Suspension,
    SuspensionKind,
)


class QueueError(Exception):
    """The queue could not do what was asked; nothing was changed. Temporary unless a subclass says otherwise."""


class QueueFullError(QueueError):
    """No room on the medium. Accepting must stop (452 4.3.1); marking continues as far as it can."""


class QueueFailedError(QueueError):
    """The writer met an fsync or I/O error and stopped permanently (fatal: exit, and recover on restart)."""


class QueueDamagedError(QueueFailedError):
    """What is stored is damaged (SQLite: "malformed"); reading or writing it again does not help, a salvage does."""


class QueueVersionError(QueueError):
    """The queue on disk has another version, or is not a queue of the relay; nothing was changed."""


class BodyDamagedError(QueueError):
    """A stored body is missing or differs from what its row says; the message is to be quarantined."""


class Action(enum.Enum):
    """What an admin can do to selected recipients."""

    FLUSH = "flush"
    """Make queued recipients due now (held ones stay held)."""
    HOLD = "hold"
    RELEASE = "release"
    """Make held or quarantined recipients due now."""
    DROP = "drop"
    """Remove without notifying anybody."""
    FAIL = "fail"
    """Remove; the sender gets a DSN unless they asked for none."""


class PendingAction(msgspec.Struct, frozen=True):
    """What an admin wants done to a recipient that a worker has claimed."""

    message_id: str
    n: int
    action: Action
    """HOLD, DROP or FAIL."""
    reason: str | None
    """What the admin gave as the reason."""


class Queue(Protocol):
    """The server's interface. Futures resolve on the loop that called, after the change is durable."""

    async def lease(self, node: str, worker: int) -> Owner:
        """Register a worker that has just started, under a new lease. Durable before it returns.

        Earlier leases of the same node and worker are ended: their marks are refused from now on, and what they had
        claimed is given back by `recover`.
        """
        ...

    def put(self, put: Put) -> asyncio.Future[None]:
        """Store a message with its recipients and body. Resolves after fsync; a `QueueError` means: not stored."""
        ...

    def mark(self, marks: Sequence[Mark], notices: Sequence[Put] = ()) -> asyncio.Future[list[Mark]]:
        """Record outcomes and store the DSNs they cause, in one transaction.

        Resolves to the marks that were refused: the recipient was no longer claimed by that owner, or a mark to QUEUED
        met a pending FAIL (the worker then marks it FAILED with its DSN; see `pending_actions`). A pending HOLD or DROP
        (see `Admin.steer`) takes the place of a mark to QUEUED; a final mark always wins over a pending action. When
        all marks are refused, the notices are not stored either. There is at most one mark for each recipient. When a
        message's last recipient has ended, its body is deleted.
        """
        ...

    async def claim(self, owner: Owner, destination: Destination, limit: int, now: float) -> list[Entry]:
        """Claim up to `limit` due recipients of a destination (QUEUED, due_at <= now) for `owner`.

        Never-tried ones first, then by due time. Durable before it returns; atomic between workers.
        """
        ...

    async def due(self, now: float, after: Destination | None, limit: int) -> list[tuple[Destination, float]]:
        """(destination, earliest due_at) of up to `limit` destinations with QUEUED recipients, due or not yet.

        In order of destination, beginning after `after` (None: at the first). O(limit · log n) however many wait.
        """
        ...

    async def bring_forward(self, untried: float, tried: float, due_at: float) -> int:
        """Make QUEUED recipients whose due time is too late due at `due_at`; returns how many.

        Too late means after `untried`, or after `tried` once an attempt was made: times that cannot have been set by
        the clock as it is now (both are after `due_at`). Recipients that wait for their message's `not_before` stay.
        It works in small durable steps; others can write in between.
        """
        ...

    async def recover(self, owner: Owner) -> int:
        """Give back what earlier leases of the owner's node and worker number had claimed. Returns how many.

        A pending HOLD or DROP is carried out; a pending FAIL leaves the recipient HELD, because its DSN is still due.
        """
        ...

    async def recover_node(self, node: str) -> int:
        """As `recover`, for all leases of a node, and remove body files that no row names. Returns how many."""
        ...

    async def pending_actions(self, owner: Owner) -> list[PendingAction]:
        """Pending actions, by message and n, on recipients that `owner` has claimed.

        The worker carries the action out at once by a mark, without an attempt, unless the recipient is on the wire.
        """
        ...

    async def head(self, message_id: str) -> Body:
        """The stored body (its `head` in memory, its file by name). `BodyDamagedError` if it cannot be read."""
        ...

    def open_file(self, body: Body) -> BinaryIO:
        """Open the file part for reading (mode "rb"). `BodyDamagedError` if it is missing or has the wrong size.

        Where `Body.file_crc` is known, reading from start to end raises `BodyDamagedError` in place of the last block
        if the bytes are not those that were stored.
        """
        ...

    def new_file(self) -> BinaryIO:
        """A new temporary file in the body folder for a large body that is still arriving; `.name` is its path.

        Pass its base name as `Body.file` to `put`, which fsyncs and renames it before the row is committed, or call
        `discard_file`. Leftovers are removed by the next `recover_node`. This and writes to the file raise OSError.
        """
        ...

    def discard_file(self, file: BinaryIO) -> None:
        """Close and remove a temporary file that will not be put."""
        ...

    async def suspensions(self) -> list[Suspension]:
        """All suspensions in force."""
        ...

    async def prune(self, ended_before: float, limit: int = 1000) -> int:
        """Delete up to `limit` of the oldest history entries that ended before that time; returns how many."""
        ...

    def failed(self) -> str | None:
        """Why the writer stopped permanently, or None while it works.

        A stored queue that was deleted, moved away or replaced is a reason too: what is put into it would be lost.
        """
        ...

    def damaged(self) -> str | None:
        """What damage was met in the stored queue, or None. New mail is refused from then on.

        What can still be read is delivered, until a change meets the damage: then the writer stops (`failed`).
        """
        ...

    def note_damage(self, what: str) -> None:
        """Refuse new mail from now on: another process met damage. The first note counts."""
        ...

    async def aclose(self) -> None:
        """Commit what was submitted, stop the writer, close. Further calls raise `QueueError`."""
        ...


class Admin(Protocol):
    """The shell's interface."""

    def select(self, selection: Selection, limit: int | None = 100) -> Iterator[Entry]:
        """Live messages with their selected recipients, oldest first."""
        ...

    def summary(self, selection: Selection) -> list[Summary]:
        """Counts by domain, largest first."""
        ...

    def due_times(self, destination: Destination, now: float, limit: int, *, tried: bool) -> list[float]:
        """When up to `limit` QUEUED recipients of a destination fell due, oldest first: tried or never tried ones."""
        ...

    def show(self, message_id: str) -> Entry | None:
        """A live message with all its live recipients."""
        ...

    def ended(self, message_id: str | None = None, address: str | None = None, limit: int = 100) -> list[Ended]:
        """History, newest first, by message, by recipient or sender address, or all."""
        ...

    def body(self, message_id: str) -> Iterator[bytes]:
        """The message's bytes in blocks; raises `BodyDamagedError`, or KeyError when there is none."""
        ...

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
        """Do `action` to the selected recipients, in batches that never block the server for long.

        For recipients that a worker has claimed, the action becomes *pending*: the worker carries it out (see
        `pending_actions`), and the caller wakes the workers. For FAIL, `notice` builds the DSN of a message's failed
        recipients; it is stored in the same transaction as their end. `reason` is recorded beside the last reply,
        for claimed recipients as well.
        """
        ...

    def put(self, put: Put) -> None:
        """Store a message (the shell's `send`, and DSNs of `fail`)."""
        ...

    def suspend(self, kind: SuspensionKind, value: str, reason: str, until: float | None, now: float) -> Suspension:
        """Add a suspension."""
        ...

    def resume(self, suspension_ids: Sequence[int]) -> int:
        """Remove suspensions; returns how many there were."""
        ...

    def suspensions(self) -> Sequence[Suspension]:
        """All that are in force."""
        ...

    def integrity(self, seconds: float) -> Integrity:
        """Examine how the queue is stored, for so long at most; a server may go on meanwhile.

        Raises `QueueError` where that cannot be done, as when another program keeps the queue locked.
        """
        ...

    def close(self) -> None:
        """Release the medium."""
        ...
