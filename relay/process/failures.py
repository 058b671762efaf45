"""Explains why the relay cannot start: a sentence and a remedy for each error of the operating system.

The relay's own errors already contain such sentences. Errors of the operating system and of SQLite do not: they need
the path and its owner to be understood. An error not known here is a bug, and its traceback is shown.
"""

import errno
import os
import pwd
import resource
import sqlite3
import sys
from pathlib import Path
from typing import NamedTuple

from relay_queue.protocol import QueueDamagedError, QueueError, QueueFullError, QueueVersionError

DAMAGE_REMEDY = "stop the relay, run `relay queue salvage`, start it again"
"""What to do about a damaged queue."""
_FULL = "no room is left on the disk (space, inodes or quota)", "free some and try again"
_REFUSED = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: ("the file may not grow", "raise the limit (`ulimit -f`)"),
    errno.EROFS: ("the file system is read-only", "mount it for writing, or name another place"),
    errno.ELOOP: ("found a symbolic link in its place", "name the file or folder that it leads to"),
    errno.EISDIR: ("found a folder in the place of a file", "move it away, or name another place"),
    errno.ENOTDIR: ("a part of the path is not a folder", "name another place"),
}
"""(what, remedy) by error number."""
_DENIED = frozenset({errno.EACCES, errno.EPERM})
_PRIMARY = 0xFF
"""The low byte of SQLite's extended result codes: the primary code."""


class StartError(Exception):
    """The relay, or one of its processes, cannot start; the text says why and what to do."""


class Explained(NamedTuple):
    """A failure explained in words."""

    what: str
    """A sentence without its full stop."""
    remedy: str
    """What to do, without a full stop; empty if no remedy is known."""

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


def explain(error: BaseException) -> Explained | None:
    """Return the explanation of an error in the environment, or None for a bug in the program."""
    match error:
        case QueueVersionError():
            return Explained(str(error), "")
        case QueueError():
            return _of_queue(error)
        case OSError():
            return explain_os(error)
        case MemoryError():
            return _NO_MEMORY
        case RuntimeError() if "start new thread" in str(error):
            return _NO_PROCESS
        case _:
            return None


def explain_os(error: OSError) -> Explained:
    """Explain what the operating system refused, at which path, and what to do."""
    place, number = _place(error), error.errno
    if number in {errno.EMFILE, errno.ENFILE}:
        return few_descriptors()
    if number == errno.ENOMEM:
        return _NO_MEMORY
    if number == errno.EAGAIN and not place:
        return _NO_PROCESS
    if number in _DENIED:
        what, remedy = _denied(place)
    elif number == errno.ENOENT and not place and not _here():
        what, remedy = "the current folder does not exist any more", "change to another one"
    else:
        what, remedy = _REFUSED.get(number or 0, (error.strerror or str(error), ""))
    return Explained(f"{place}: {what}" if place else what, remedy)


def few_descriptors(needed: int | None = None) -> Explained:
    """Explain that the limit of open files is too low."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = "" if needed is None else f", and the relay needs {needed} to start"
    return Explained(
        f"no more than {allowed} files may be open at once{wanted}",
        "raise the limit (`ulimit -n 65536`, or LimitNOFILE= of the service)",
    )


def say(text: str) -> None:
    """Write to standard error with terminal control characters escaped, as texts quote file names and settings."""
    shown = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)
    if sys.stderr is not None:  # closed by whoever started the relay
        sys.stderr.write(f"{shown}\n")


def program_readable() -> bool:
    """Whether this user may read Python and the relay. Not if root installed them privately, for example in /root."""
    return os.access(os.__file__, os.R_OK) and os.access(__file__, os.R_OK)


def unreadable_program(user: str) -> Explained:
    """Explain that the relay's user cannot run the relay."""
    return Explained(
        f"the user {user} cannot read Python in {Path(os.__file__).parent} or the relay in {Path(__file__).parents[2]}",
        "install them where everyone can read them, e.g. with a system Python in /opt/relay",
    )


_NO_MEMORY = Explained("there is not enough memory", "raise the limit (`ulimit -v`, MemoryMax=), or set fewer workers")
_NO_PROCESS = Explained(
    "the system allows no more processes or threads", "raise the limit (`ulimit -u`, or TasksMax= of the service)"
)


def _of_queue(error: QueueError) -> Explained:
    cause = error.__cause__
    if cause is not None and not isinstance(cause, QueueError) and (explained := explain(cause)) is not None:
        return explained
    if isinstance(error, QueueFullError):
        return Explained(f"the queue: {_FULL[0]}", _FULL[1])
    if isinstance(error, QueueDamagedError):
        return Explained(f"the queue is damaged ({error})", DAMAGE_REMEDY)
    code = getattr(cause, "sqlite_errorcode", None) if isinstance(cause, sqlite3.Error) else None
    if code is not None:
        primary = code & _PRIMARY
        if primary == sqlite3.SQLITE_BUSY:
            return Explained(f"another program keeps the queue locked ({error})", "end it (see `fuser queue.db`)")
        if primary == sqlite3.SQLITE_CANTOPEN:
            return Explained(f"the queue cannot be opened ({error})", "see to the rights of its files and folder")
    return Explained(f"the queue: {error}", "")


def _place(error: OSError) -> str:
    name = error.filename
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    return str(name) if isinstance(name, str | os.PathLike) else ""


def _denied(place: str) -> tuple[str, str]:
    """Explain who owns the path (or its nearest existing parent folder), and which user was denied."""
    path = Path(place) if place else Path()
    for part in (path, *path.parents) if place else ():
        try:
            owner = part.stat().st_uid
        except OSError:
            continue
        what = "it" if part == path else str(part)
        me = _user(os.geteuid())
        if owner == os.geteuid():
            return f"permission denied to {me}, who owns {what}", f"run: chmod u+rwX {part}"
        others = " or root" if owner else ""
        remedy = f"run this as {_user(owner)}{others}, or give it away: chown {me} {part}"
        return f"permission denied ({what} belongs to {_user(owner)}, and this runs as {me})", remedy
    return "permission denied", "run this as the relay's user or as root"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _here() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True
