"""What sqlite3 and the file system raise, mapped once into `relay_queue.protocol`'s errors.

The question each answer serves: go on (and with what), or stop the writer for good.
"""

import enum
import errno
import sqlite3

from relay_queue.protocol import QueueError, QueueFailedError, QueueFullError

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MEDIUM = frozenset({errno.EIO, errno.EROFS, errno.ENXIO, errno.ENODEV})
_PRIMARY = 0xFF
"""The low octet of an extended result code is the primary one (sqlite.org/rescode.html)."""
_FATAL_CODES = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_NOLFS,
    }
)


class Fault(enum.Enum):
    """What to do about an error."""

    OPERATION = enum.auto()
    """One operation is at fault: fail it, do the others."""
    ROOM = enum.auto()
    """No room: fail puts, keep marks."""
    BUSY = enum.auto()
    """Another process held the lock for too long: as ROOM, but the puts are merely refused."""
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
    return Fault.FATAL if primary in _FATAL_CODES else Fault.OPERATION


def as_queue_error(error: Exception, doing: str) -> QueueError:
    """The error of ours for a foreign one, naming what was being done."""
    if isinstance(error, QueueError):
        return error
    text = f"{doing}: {type(error).__name__}: {error}"
    match fault_of(error):
        case Fault.ROOM:
            return QueueFullError(text)
        case Fault.FATAL:
            return QueueFailedError(text)
        case _:
            return QueueError(text)
