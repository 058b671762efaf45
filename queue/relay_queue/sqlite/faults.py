"""Maps the exceptions of sqlite3 and the file system to the errors of `relay_queue.protocol`, in this one place.

The mapping decides whether the writer continues (and with which operations) or stops permanently.
"""

import enum
import errno
import os
import resource
import sqlite3
from pathlib import Path

from relay_queue.protocol import QueueDamagedError, QueueError, QueueFailedError, QueueFullError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MEDIUM = frozenset({errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV})
_PRIMARY = 0xFF
"""The low byte of an extended result code is the primary result code (sqlite.org/rescode.html)."""
_FATAL_CODES = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOLFS,
    }
)

_DAMAGED_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

FOREIGN = (sqlite3.Error, OSError, UnicodeError)
"""All exceptions of sqlite3 and the file system. UnicodeError occurs if SQLite's message quotes a damaged name."""
DAMAGE = (*FOREIGN, ValueError, TypeError)
"""`FOREIGN`, and the exceptions raised when rows of a damaged file are decoded."""

_WRITES = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_TIGHT = 1 << 20
"""Bytes: if less space than this is left, a failed write is attributed to lack of space."""


class Fault(enum.Enum):
    """What to do about an error."""

    OPERATION = enum.auto()
    """One operation is at fault: fail it, carry out the others."""
    ROOM = enum.auto()
    """No space left: fail puts, keep marks."""
    BUSY = enum.auto()
    """Another process held the lock for too long: as ROOM, but the puts fail with a plain `QueueError`."""
    DAMAGED = enum.auto()
    """The file differs from what was written: writes must stop, reads may skip the damaged pages."""
    FATAL = enum.auto()
    """The disk cannot be trusted any more: stop."""


def fault_of(error: Exception) -> Fault:
    """The kind of fault of an exception. Unknown ones count as OPERATION, so that one operation cannot stop others."""
    if isinstance(error, OSError):
        return _fault_of_errno(error.errno)
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return Fault.OPERATION if code is None else _fault_of_code(code & _PRIMARY)


def _fault_of_errno(number: int | None) -> Fault:
    if number in _NO_ROOM:
        return Fault.ROOM
    return Fault.FATAL if number in _MEDIUM else Fault.OPERATION


def _fault_of_code(primary: int) -> Fault:
    if primary == sqlite3.SQLITE_FULL:
        return Fault.ROOM
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Fault.BUSY
    if primary in _DAMAGED_CODES:
        return Fault.DAMAGED
    return Fault.FATAL if primary in _FATAL_CODES else Fault.OPERATION


def damaging(error: Exception) -> bool:
    """Whether an exception from reading (one of `DAMAGE`) means that the file is damaged, not for example locked."""
    if isinstance(error, OSError):
        return False
    return getattr(error, "sqlite_errorcode", None) is None or fault_of(error) is Fault.DAMAGED


def undecodable(error: BaseException | None) -> bool:
    """Whether a text that was read is not valid UTF-8. Python's sqlite3 raises this, without an SQLite result code."""
    return isinstance(error, UnicodeError) or (
        isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", None) is None
    )


def for_want_of_room(error: Exception, folder: Path) -> bool:
    """Whether SQLite's write error was really caused by a full disk, a quota or the file size limit.

    SQLite returns SQLITE_FULL only for ENOSPC from a plain write. It reports ENOSPC in its shared memory file, EDQUOT
    and EFBIG as I/O errors. A failed write, unlike a failed fsync, leaves no doubt about what is on disk: the
    transaction is rolled back.
    """
    if getattr(error, "sqlite_errorcode", None) not in _WRITES:
        return False
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and any(
        path.stat().st_size + _TIGHT > limit for path in folder.glob("queue.db*")
    ):
        return True
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize < _TIGHT


def as_queue_error(error: Exception, doing: str, fault: Fault | None = None) -> QueueError:
    """Map a foreign exception to a `QueueError` that names the operation (`doing`).

    `fault` overrides the classification by `fault_of`.
    """
    if isinstance(error, QueueError):
        return error
    text = f"{doing}: {type(error).__name__}: {error}"
    made = _ERRORS[fault_of(error) if fault is None else fault](text)
    made.__cause__ = error  # also set if the error is passed on and not raised
    return made


_ERRORS: dict[Fault, type[QueueError]] = {
    Fault.OPERATION: QueueError,
    Fault.ROOM: QueueFullError,
    Fault.BUSY: QueueError,
    Fault.DAMAGED: QueueDamagedError,
    Fault.FATAL: QueueFailedError,
}
