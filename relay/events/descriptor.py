"""An open output that is written to without waiting: a file, a pipe, a terminal or a socket.

A pipe that nobody reads, a terminal that is stopped (Ctrl-S) and a socket whose peer is slow make `write(2)` wait for
as long as they like, and a process that waits there notices no signal in time. Here such a write raises
`BlockingIOError` at once. Regular files are written as usual: the kernel knows no other way for them.
"""

import contextlib
import os
import select
import socket
import stat
from pathlib import Path
from typing import Final

_ATOMIC: Final = select.PIPE_BUF
"""Octets that a pipe takes as a whole or not at all (pipe(7)), so that the lines of several processes do not mix."""
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class Descriptor:
    """One open output. `ours`: opened here, so `close` closes it."""

    def __init__(self, file: int, *, ours: bool, polled: bool = False) -> None:
        self._file = file
        self._ours = ours
        self._polled = polled
        status = os.fstat(file)
        self._identity = status.st_dev, status.st_ino
        self._regular = stat.S_ISREG(status.st_mode)
        self._socket: socket.socket | None = None
        if stat.S_ISSOCK(status.st_mode):
            self._socket = socket.socket(fileno=os.dup(file))

    def write(self, data: memoryview) -> int:
        """Write some octets, at least one; returns how many. Raises OSError, `BlockingIOError` where it would wait."""
        if self._regular:
            return os.write(self._file, data)
        part = data[: _whole_lines(data)]
        if self._socket is not None:
            return self._socket.send(part, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._polled and not writable([self], 0):
            raise BlockingIOError
        return os.write(self._file, part)

    def is_at(self, path: Path) -> bool:
        """Whether the path still names this output: a log file may have been moved away or removed."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def fileno(self) -> int:
        """For `poll`."""
        return self._file

    def close(self) -> None:
        """Close what was opened here."""
        if self._socket is not None:
            self._socket.close()
        if self._ours:
            os.close(self._file)
        self._ours = False


def open_stream(number: int) -> Descriptor:
    """Standard output (1) or standard error (2).

    The stream itself stays as it is: O_NONBLOCK would hold for every process that shares it, such as the shell that
    started the relay. So pipes and terminals are opened a second time. Where that is not allowed (a pipe made by
    another user), each write first asks whether there is room.
    """
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISSOCK(mode):
        with contextlib.suppress(OSError):
            return Descriptor(os.open(f"/proc/self/fd/{number}", _APPEND), ours=True)
        return Descriptor(number, ours=False, polled=True)
    return Descriptor(number, ours=False)


def open_file(path: Path) -> Descriptor:
    """A file to append to, made (0600) where it is missing, its folder too (0700); or a named pipe. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    flags = _APPEND | os.O_CREAT | os.O_NOFOLLOW
    if path.is_fifo():
        # Opened for reading as well, a named pipe can be opened before its reader comes, and outlives its restart.
        with contextlib.suppress(PermissionError):
            return Descriptor(os.open(path, flags & ~os.O_WRONLY | os.O_RDWR, 0o600), ours=True)
    return Descriptor(os.open(path, flags, 0o600), ours=True)


def is_journal(number: int, named: str) -> bool:
    """Whether a stream goes to the journal: systemd puts its device and inode into `$JOURNAL_STREAM` (`named`)."""
    try:
        status = os.fstat(number)
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def writable(outputs: list[Descriptor], seconds: float) -> bool:
    """Wait until one of the outputs takes something, or fails; False: the time is over."""
    poll = select.poll()
    for output in outputs:
        poll.register(output, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def _whole_lines(data: memoryview) -> int:
    """How many of the first octets to write at once: as many whole lines as a pipe takes at once, or a part of one."""
    if len(data) <= _ATOMIC:
        return len(data)
    return bytes(data[:_ATOMIC]).rfind(b"\n") + 1 or _ATOMIC
