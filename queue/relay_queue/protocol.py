"""What the relay asks of a queue. Backends are siblings named by medium: `relay_queue.sqlite`, `relay_queue.memory`.

Two faces. `Queue` is the server's: asynchronous, batched, called thousands of times a second; nothing it does may block
the event loop. `Admin` is the shell's: synchronous, convenient, on the same data, whether or not a server runs.
The same tests run against every backend (`tests/queue/`).
"""

import asyncio
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Protocol

import msgspec

from relay_queue.model import Body, Ended, Entry, Integrity, Mark, Put, Selection, Steered, Summary, Suspension


class QueueError(Exception):
    """The queue could not do what was asked; nothing was changed. Temporary unless a subclass says otherwise."""


class QueueFullError(QueueError):
    """No room on the medium. Accepting must stop (452 4.3.1); marking goes on as far as it can."""


class QueueFailedError(QueueError):
    """The writer hit an fsync or I/O error and stopped for good (fatal: exit and recover on restart)."""


class QueueDamagedError(QueueFailedError):
    """What is stored is damaged (SQLite: "malformed"); reading or writing it again does not help, a salvage does."""


class QueueVersionError(QueueError):
    """The queue on disk is of another version, or no queue of ours; nothing was changed."""


class BodyDamagedError(QueueError):
    """A stored body is missing or not what its row says; the message is to be quarantined."""


class Action(enum.Enum):
    """What an admin can do to selected recipients."""

    FLUSH = "flush"
    """Due now (held ones stay held)."""
    HOLD = "hold"
    RELEASE = "release"
    """Held or quarantined ones become due now."""
    DROP = "drop"
    """Gone, nobody is told."""
    FAIL = "fail"
    """Gone, and the sender gets a DSN unless they asked not to."""


class Wish(msgspec.Struct, frozen=True):
    """What an admin wants of a recipient in a worker's hands."""

    message_id: str
    n: int
    action: Action
    """HOLD, DROP or FAIL."""
    reason: str | None
    """What the admin gave as the reason."""


class Queue(Protocol):
    """The server's face. Futures resolve on the loop that called, after the change is durable."""

    def put(self, put: Put) -> asyncio.Future[None]:
        """Store a message with its recipients and body. Resolves after fsync; a `QueueError` means: not stored."""
        ...

    def mark(self, marks: Sequence[Mark], notices: Sequence[Put] = ()) -> asyncio.Future[list[Mark]]:
        """Record outcomes and store the DSNs they cause, in one transaction.

        Resolves to the marks that were refused: the recipient was no longer in that owner's hands, or a mark to QUEUED
        met an admin's wish to FAIL (the worker then marks it FAILED with its DSN; `withdrawn` tells). A wish to HOLD or
        DROP (see `Admin.steer`) takes the place of a mark to QUEUED; a final mark always wins over a wish.
        When all marks are refused the notices are not stored either. Of each recipient there is at most one mark.
        When a message's last recipient has ended its body is deleted.
        """
        ...

    async def claim(self, owner: int, domain: str, limit: int, now: float) -> list[Entry]:
        """Take up to `limit` due recipients of a domain (QUEUED, due_at <= now) into `owner`'s hands.

        Never-tried ones first, then by due time. Durable before it returns; atomic between workers.
        """
        ...

    async def due(self, now: float, after: str, limit: int) -> list[tuple[str, float]]:
        """(domain, earliest due_at) of up to `limit` domains with QUEUED recipients, due or not yet.

        In order of domain, beginning after `after` ("" at first). O(limit · log n) however many wait.
        """
        ...

    async def hasten(self, untried: float, tried: float, due_at: float) -> int:
        """Make QUEUED recipients that wait for too long due at `due_at`; returns how many.

        Too long is a due time after `untried`, or after `tried` once an attempt was made: one that nobody can have set
        by the clock as it goes now (both lie after `due_at`). In small steps, each durable: other changes come between.
        """
        ...

    async def recover(self, owner: int | None) -> int:
        """Give back what a worker that died (None: any worker) had in hand. Returns how many.

        Wishes to HOLD and DROP are carried out; one to FAIL leaves the recipient HELD: its DSN is due.
        """
        ...

    async def withdrawn(self, owner: int) -> list[Wish]:
        """Which recipients in this owner's hands an admin wants held, dropped or failed, by message and n.

        The worker carries the wish out at once by a mark, without an attempt, unless the recipient is on the wire.
        """
        ...

    async def head(self, message_id: str) -> Body:
        """The stored body (its `head` in memory, its file by name). `BodyDamagedError` if it cannot be read."""
        ...

    def open_file(self, body: Body) -> BinaryIO:
        """Open the file part for reading (mode "rb"). `BodyDamagedError` if it is missing or of the wrong size.

        Where `Body.file_crc` is known, reading from front to end raises `BodyDamagedError` in place of the last block
        when the octets are not those that were stored.
        """
        ...

    def new_file(self) -> BinaryIO:
        """A new temporary file in the body folder for a large body that is still arriving; `.name` is its path.

        Pass its base name as `Body.file` to `put`, which fsyncs and renames it before the row is committed; or
        `discard_file` it. Leftovers are removed at the next `recover(None)`. It and its writes raise OSError.
        """
        ...

    def discard_file(self, file: BinaryIO) -> None:
        """Close and remove a temporary file that will not be put."""
        ...

    async def suspensions(self) -> list[Suspension]:
        """All suspensions in force."""
        ...

    async def prune(self, ended_before: float, limit: int = 1000) -> int:
        """Forget up to `limit` of the oldest history entries ended before that time; returns how many went."""
        ...

    def failed(self) -> str | None:
        """Why the writer stopped for good, or None while it is well.

        A stored queue that was deleted, moved away or replaced is a reason too: what it takes would be lost.
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
        """Commit what was handed in, stop the writer, close. Further calls raise `QueueError`."""
        ...


class Admin(Protocol):
    """The shell's face."""

    def select(self, selection: Selection, limit: int | None = 100) -> Iterator[Entry]:
        """Live messages with their selected recipients, oldest first."""
        ...

    def summary(self, selection: Selection) -> list[Summary]:
        """Counts by domain, largest first."""
        ...

    def due_times(self, domain: str, now: float, limit: int, *, tried: bool) -> list[float]:
        """When up to `limit` QUEUED recipients of the domain fell due, oldest first: those tried, or never tried."""
        ...

    def show(self, message_id: str) -> Entry | None:
        """A live message with all its live recipients."""
        ...

    def ended(self, message_id: str | None = None, address: str | None = None, limit: int = 100) -> list[Ended]:
        """History, newest first, by message, by recipient or sender address, or all."""
        ...

    def body(self, message_id: str) -> Iterator[bytes]:
        """The message's octets in blocks; raises `BodyDamagedError`, or KeyError when there is none."""
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

        Recipients in a worker's hands get a *wish* instead, which the worker carries out (see `withdrawn`); the caller
        then wakes the workers. For FAIL, `notice` builds the DSN of a message's failed recipients; it is stored in the
        same transaction as their end. `reason` is recorded beside the last reply, for recipients in hand as well.
        """
        ...

    def put(self, put: Put) -> None:
        """Store a message (the shell's `send`, and DSNs of `fail`)."""
        ...

    def suspend(self, kind: str, value: str, reason: str, until: float | None, now: float) -> Suspension:
        """Add a suspension."""
        ...

    def resume(self, suspension_ids: Sequence[int]) -> int:
        """Remove suspensions; returns how many there were."""
        ...

    def suspensions(self) -> Sequence[Suspension]:
        """All in force."""
        ...

    def integrity(self, seconds: float) -> Integrity:
        """Examine how the queue is stored, for so long at most; a server may go on meanwhile.

        Raises `QueueError` where that cannot be done, as when another program keeps the queue locked.
        """
        ...

    def close(self) -> None:
        """Release the medium."""
        ...
