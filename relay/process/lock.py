"""One server per data folder: a lock on `run/lock`, with the holder's process id inside.

The kernel drops the lock when its holder dies, however it dies, so there is no stale lock to clean up; the file itself
stays (removing it would let two processes lock two files of one name). A process that is forked off shares the lock:
the folder stays taken until the last of them is gone (`orphans` ends those that hang).
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_TRIES: Final = 5
_PAUSE: Final = 0.02
"""Seconds between tries. `holder` takes a shared lock for an instant, which must not look like a running server."""


class AlreadyRunningError(Exception):
    """Another server has the data folder. `pid` is its process id; None when it could not be read."""

    def __init__(self, pid: int | None, data_dir: Path) -> None:
        super().__init__(f"a relay is already running on {data_dir}" + (f" (process {pid})" if pid else ""))
        self.pid = pid


class Lock:
    """A lock that is held, until `release` or the process ends. Use it with `with`, or keep it."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the data folder up. Doing it twice does nothing."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1


def acquire(data_dir: Path | str) -> Lock:
    """Take the data folder for this process. Raises `AlreadyRunningError`, or OSError where it can't be written."""
    path = lock_path(data_dir)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if not _try(file):
        pid = _pid(file) or None
        os.close(file)
        raise AlreadyRunningError(pid, Path(data_dir))
    if os.geteuid() == 0:
        # Taken before privileges are dropped, and read by the shell as the folder's owner.
        owner = path.parent.parent.stat()
        os.fchown(file, owner.st_uid, owner.st_gid)
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return Lock(file)


def holder(data_dir: Path | str) -> int | None:
    """The process id of the server that has the folder (0: unknown), or None when no server runs."""
    try:
        file = os.open(lock_path(data_dir), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _pid(file)
        return None
    finally:
        os.close(file)


def lock_path(data_dir: Path | str) -> Path:
    """Where the lock of a data folder is."""
    return Path(data_dir) / "run" / "lock"


def _try(file: int) -> bool:
    for n in range(_TRIES):
        if n:
            time.sleep(_PAUSE)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _pid(file: int) -> int:
    """The number in the file; 0 where its holder has not written it yet."""
    text = os.pread(file, 20, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() and text.isascii() else 0
