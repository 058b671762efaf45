"""What sqlite3 and the file system raise, mapped once into `relay_queue.protocol`'s errors.

The question each answer serves: go on (and with what), or stop the writer for good.
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
"""The low octet of an extended result code is the primary one (sqlite.org/rescode.html)."""
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
"""All that sqlite3 and the file system raise: UnicodeDecodeError where SQLite's own message quotes a damaged name."""
DAMAGE = (*FOREIGN, ValueError, TypeError)
"""And what comes of taking for rows what a damaged file gives."""

_WRITES = frozenset({sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
_TIGHT = 1 << 20
"""Octets left below which a failed write is put down to them."""


class Fault(enum.Enum):
    """What to do about an error."""

    OPERATION = enum.auto()
    """One operation is at fault: fail it, do the others."""
    ROOM = enum.auto()
    """No room: fail puts, keep marks."""
    BUSY = enum.auto()
    """Another process held the lock for too long: as ROOM, but the puts are merely refused."""
    DAMAGED = enum.auto()
    """The file is not what was written: a change must not build on it, a read may go around it."""
    FATAL = enum.auto()
    """The medium cannot be trusted any more: stop."""


def fault_of(error: Exception) -> Fault:
    """Which kind of fault an exception is. Unknown ones are the operation's own, so that one cannot stop the others."""
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
    """Whether an exception in reading (one of `DAMAGE`) says that the file is damaged, not that it is locked."""
    if isinstance(error, OSError):
        return False
    return getattr(error, "sqlite_errorcode", None) is None or fault_of(error) is Fault.DAMAGED


def undecodable(error: BaseException | None) -> bool:
    """Whether a text that was read is no UTF-8: sqlite3 says so itself, without a result code of SQLite's."""
    return isinstance(error, UnicodeError) or (
        isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorcode", None) is None
    )


def for_want_of_room(error: Exception, folder: Path) -> bool:
    """Whether a failed write of SQLite is a full disk, quota or file size limit after all.

    SQLite says SQLITE_FULL only for ENOSPC from a plain write; the same in its shared memory file, EDQUOT and EFBIG
    come as I/O errors. A failed write, unlike a failed fsync, leaves nothing in doubt: the transaction is rolled back.
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
    """The error of ours for a foreign one, naming what was being done; `fault` when the caller knows better."""
    if isinstance(error, QueueError):
        return error
    text = f"{doing}: {type(error).__name__}: {error}"
    made = _ERRORS[fault_of(error) if fault is None else fault](text)
    made.__cause__ = error  # also where it is handed over and not raised
    return made


_ERRORS: dict[Fault, type[QueueError]] = {
    Fault.OPERATION: QueueError,
    Fault.ROOM: QueueFullError,
    Fault.BUSY: QueueError,
    Fault.DAMAGED: QueueDamagedError,
    Fault.FATAL: QueueFailedError,
}
