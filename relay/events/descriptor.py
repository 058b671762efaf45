"""An open output for non-blocking writes: a file, a pipe, a terminal or a socket.

A pipe that nobody reads, a terminal that is stopped (Ctrl-S) and a socket whose peer is slow can block `write(2)`
indefinitely, and a blocked process does not handle signals in time. Here such a write raises `BlockingIOError` at
once. Regular files are written as usual, because the kernel has no non-blocking mode for them.
"""

import contextlib
import os
import select
import socket
import stat
from pathlib import Path
from typing import Final

_ATOMIC: Final = select.PIPE_BUF
"""Bytes that a pipe takes as a whole or not at all (pipe(7)), so that the lines of several processes do not mix."""
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class Descriptor:
    """One open output. `ours` means that the descriptor was opened here, so `close` closes it.

    `polled` means that the descriptor may be in blocking mode, so `write` checks for room first.
    """

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
        """Write at least one byte and return how many. Raises OSError; `BlockingIOError` if the write would block."""
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
        """Return the descriptor's number, for `poll`."""
        return self._file

    def close(self) -> None:
        """Close the descriptor, if it was opened here."""
        if self._socket is not None:
            self._socket.close()
        if self._ours:
            os.close(self._file)
        self._ours = False


def open_stream(number: int) -> Descriptor:
    """Open standard output (1) or standard error (2).

    The flags of the stream itself are not changed: O_NONBLOCK would affect every process that shares it, such as the
    shell that started the relay. So pipes and terminals are opened a second time. Where that is not permitted (a pipe
    made by another user), each write first polls whether there is room.
    """
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISSOCK(mode):
        with contextlib.suppress(OSError):
            return Descriptor(os.open(f"/proc/self/fd/{number}", _APPEND), ours=True)
        return Descriptor(number, ours=False, polled=True)
    return Descriptor(number, ours=False)


def open_file(path: Path) -> Descriptor:
    """Open a named pipe, or a file for appending; a missing file (0600) and folder (0700) are created.

    Raises OSError.
    """
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    flags = _APPEND | os.O_CREAT | os.O_NOFOLLOW
    if path.is_fifo():
        # With O_RDWR a named pipe can be opened before its reader exists, and stays usable when the reader restarts.
        with contextlib.suppress(PermissionError):
            return Descriptor(os.open(path, flags & ~os.O_WRONLY | os.O_RDWR, 0o600), ours=True)
    return Descriptor(os.open(path, flags, 0o600), ours=True)


def is_journal(number: int, named: str) -> bool:
    """Whether a stream goes to the journal. `named` is `$JOURNAL_STREAM`, which holds its device and inode."""
    try:
        status = os.fstat(number)
    except OSError:
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def writable(outputs: list[Descriptor], seconds: float) -> bool:
    """Wait until one of the outputs is writable or has failed. Returns False on timeout."""
    poll = select.poll()
    for output in outputs:
        poll.register(output, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def _whole_lines(data: memoryview) -> int:
    """Return how many bytes to write at once: the whole lines that fit into an atomic write, or a part of a line."""
    if len(data) <= _ATOMIC:
        return len(data)
    return bytes(data[:_ATOMIC]).rfind(b"\n") + 1 or _ATOMIC
