"""The interfaces of a queue. Backends are sibling packages named by medium: `relay_queue.sqlite`, `relay_queue.memory`.

There are two interfaces. `Queue` is for the server: asynchronous, batched, called thousands of times a second; it must
never block the event loop. `Admin` is for the shell: synchronous, on the same data, whether or not a server runs. The
same tests run against every backend (`tests/queue/`).

Recovery: a worker registers with `lease` and gives back only what earlier leases of the same node and worker number
hold (`recover`). `recover_node` gives back everything that a node holds. Only the holder of the lock on the node's
data folder may call it, before it starts workers.
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
    """The queue could not perform the operation; nothing was changed. Temporary unless a subclass says otherwise."""


class QueueFullError(QueueError):
    """The disk is full. New mail must be refused (452 4.3.1); marking continues as far as possible."""


class QueueFailedError(QueueError):
    """The writer stopped permanently after an fsync or I/O error (fatal: exit, and recover on restart)."""


class QueueDamagedError(QueueFailedError):
    """The stored data is damaged (SQLite: "malformed"). Retrying does not help; a salvage does."""


class QueueVersionError(QueueError):
    """The file on disk has an unsupported version, or is not a queue of the relay; nothing was changed."""


class BodyDamagedError(QueueError):
    """A stored body is missing or does not match its row; the caller must quarantine the message."""


class Action(enum.Enum):
    """What an admin can do to selected recipients."""

    FLUSH = "flush"
    """Make queued recipients due now (held ones stay held)."""
    HOLD = "hold"
    RELEASE = "release"
    """Make held or quarantined recipients due now."""
    DROP = "drop"
    """Remove without a notification."""
    FAIL = "fail"
    """Remove; the sender gets a DSN unless they asked for none."""


class PendingAction(msgspec.Struct, frozen=True):
    """An admin's action on a claimed recipient, to be carried out by its worker."""

    message_id: str
    n: int
    action: Action
    """HOLD, DROP or FAIL."""
    reason: str | None
    """The reason that the admin gave."""


class Queue(Protocol):
    """The server's interface. Futures resolve on the caller's event loop, after the change is durable."""

    async def lease(self, node: str, worker: int) -> Owner:
        """Register a worker that has just started, under a new lease. Durable when it returns.

        This ends earlier leases of the same node and worker: their marks are refused from now on, and `recover` gives
        back what they had claimed.
        """
        ...

    def put(self, put: Put) -> asyncio.Future[None]:
        """Store a message with its recipients and body. Resolves after fsync; on `QueueError` it is not stored."""
        ...

    def mark(self, marks: Sequence[Mark], notices: Sequence[Put] = ()) -> asyncio.Future[list[Mark]]:
        """Record outcomes and store the DSNs they cause, in one transaction.

        Resolves to the marks that were refused: the recipient was no longer claimed by that owner, or a mark to QUEUED
        met a pending FAIL (the worker then marks it FAILED with its DSN; see `pending_actions`). A pending HOLD or DROP
        (see `Admin.steer`) replaces a mark to QUEUED; a final mark always wins over a pending action. If all marks are
        refused, the notices are not stored either. A call has at most one mark for each recipient. When a message's
        last recipient has ended, its body is deleted.
        """
        ...

    async def claim(self, owner: Owner, destination: Destination, limit: int, now: float) -> list[Entry]:
        """Claim up to `limit` due recipients of a destination (QUEUED, due_at <= now) for `owner`.

        Recipients that were never tried come first, then by due time. Durable when it returns; atomic between workers.
        """
        ...

    async def due(self, now: float, after: Destination | None, limit: int) -> list[tuple[Destination, float]]:
        """(destination, earliest due_at) of up to `limit` destinations with QUEUED recipients, due or not yet.

        Ordered by destination, starting after `after` (None: from the first). Takes O(limit · log n), however many
        recipients wait.
        """
        ...

    async def bring_forward(self, untried: float, tried: float, due_at: float) -> int:
        """Set the due time of QUEUED recipients that are due too late to `due_at`; returns how many.

        Too late means after `untried`, or after `tried` if an attempt was made: with the current clock no due time can
        be that late, so the clock must have been set back. Both limits must be after `due_at`. Recipients that wait for
        their message's `not_before` are not changed. Works in small durable steps; others can write in between.
        """
        ...

    async def recover(self, owner: Owner) -> int:
        """Give back what earlier leases of the owner's node and worker number had claimed; returns how many recipients.

        A pending HOLD or DROP is carried out. With a pending FAIL the recipient becomes HELD, because its DSN has not
        been sent.
        """
        ...

    async def recover_node(self, node: str) -> int:
        """As `recover`, for all leases of a node; also removes body files that no row names. Returns the same count."""
        ...

    async def pending_actions(self, owner: Owner) -> list[PendingAction]:
        """Pending actions on recipients that `owner` has claimed, ordered by message id and n.

        The worker carries out the action at once, by a mark without an attempt, unless the recipient is being
        delivered.
        """
        ...

    async def head(self, message_id: str) -> Body:
        """The stored body (its `head` in memory, its file by name). Raises `BodyDamagedError` if it cannot be read."""
        ...

    def open_file(self, body: Body) -> BinaryIO:
        """Open the file part for reading (mode "rb"). Raises `BodyDamagedError` if it is missing or has the wrong size.

        If `Body.file_crc` is known and the bytes are not those that were stored, reading from start to end raises
        `BodyDamagedError` instead of returning the last block.
        """
        ...

    def new_file(self) -> BinaryIO:
        """Create a temporary file in the body folder for a large body that is still arriving; `.name` is its path.

        Pass its base name as `Body.file` to `put`, which fsyncs and renames it before the row is committed, or call
        `discard_file`. The next `recover_node` removes leftover files. This call and writes to the file raise OSError.
        """
        ...

    def discard_file(self, file: BinaryIO) -> None:
        """Close and remove a temporary file that will not be put."""
        ...

    async def suspensions(self) -> list[Suspension]:
        """All suspensions in force."""
        ...

    async def prune(self, ended_before: float, limit: int = 1000) -> int:
        """Delete up to `limit` of the oldest history entries that ended before `ended_before`; returns how many."""
        ...

    def failed(self) -> str | None:
        """Why the writer stopped permanently, or None while it works.

        A deleted, moved or replaced database file is also a failure: new messages would be lost.
        """
        ...

    def damaged(self) -> str | None:
        """A description of damage found in the stored queue, or None. New mail is refused from then on.

        Messages that can still be read are delivered until a write fails on the damage; then the writer stops
        (`failed`).
        """
        ...

    def note_damage(self, what: str) -> None:
        """Refuse new mail from now on, because another process found damage. Only the first description is kept."""
        ...

    async def aclose(self) -> None:
        """Commit what was submitted, stop the writer and close. Further calls raise `QueueError`."""
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
        """Due times (up to `now`) of at most `limit` QUEUED recipients of a destination, oldest first.

        `tried` selects recipients with at least one attempt, or those that were never tried.
        """
        ...

    def show(self, message_id: str) -> Entry | None:
        """A live message with all its live recipients."""
        ...

    def ended(self, message_id: str | None = None, address: str | None = None, limit: int = 100) -> list[Ended]:
        """History, newest first, by message, by recipient or sender address, or all."""
        ...

    def body(self, message_id: str) -> Iterator[bytes]:
        """The message's bytes in blocks. Raises `BodyDamagedError`, or KeyError if there is no such message."""
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
        """Apply `action` to the selected recipients, in batches that never block the server for long.

        For claimed recipients the action becomes *pending*: the worker carries it out (see `pending_actions`), and the
        caller wakes the workers. For FAIL, `notice` builds the DSN for a message's failed recipients; it is stored in
        the transaction that ends them. `reason` is recorded next to the last reply, also for claimed recipients.
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
        """All suspensions in force."""
        ...

    def integrity(self, seconds: float) -> Integrity:
        """Check the stored queue for damage, for at most `seconds`; a server may keep running meanwhile.

        Raises `QueueError` if the check is not possible, for example while another program keeps the queue locked.
        """
        ...

    def close(self) -> None:
        """Close the connection to the queue."""
        ...
