"""One server per data folder: a lock on `run/lock`, with the holder's process id inside.

The kernel drops the lock when its holder dies, however it dies, so there is no stale lock to clean up; the file itself
stays (removing it would let two processes lock two files of one name). Forked processes share the lock: the folder
stays locked until the last of them has ended (`orphans` kills those that hang).
"""

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_SAFE: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES: Final = 5
_PAUSE: Final = 0.02
"""Seconds between attempts. `holder` takes a shared lock briefly, which must not be mistaken for a running server."""


class AlreadyRunningError(Exception):
    """Another server holds the data folder. `pid` is its process id, or None if it could not be read."""

    def __init__(self, pid: int | None, data_dir: Path) -> None:
        named = f" (process {pid})" if pid else ""
        super().__init__(f"a relay is already running on {data_dir}{named}; stop it first")
        self.pid = pid


class LockError(Exception):
    """The lock file cannot be used; the text says why."""


class Lock:
    """A held lock. It lasts until `release`, the end of a `with` block or the end of the process."""

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def holds(self, path: Path) -> bool:
        """Whether `path` still names the lock file. False after the folder was deleted or moved away."""
        try:
            found, held = path.lstat(), os.fstat(self._file)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        """Release the data folder. A second call does nothing."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1


def acquire(data_dir: Path | str) -> Lock:
    """Lock the data folder for this process. Raises `AlreadyRunningError`, or OSError if it cannot be written."""
    with _run_folder(data_dir, create=True) as folder:
        file = os.open("lock", os.O_RDWR | os.O_CREAT | _SAFE, 0o600, dir_fd=folder)
        try:
            _check_plain(file, lock_path(data_dir))
            _take(file, Path(data_dir))
            if os.geteuid() == 0:
                # The shell reads the file as the folder's owner.
                owner = Path(data_dir).lstat()
                os.fchown(file, owner.st_uid, owner.st_gid)
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(file)
            raise
    return Lock(file)


def holder(data_dir: Path | str) -> int | None:
    """Return the process id of the server that holds the folder (0 if unknown), or None if no server runs."""
    try:
        with _run_folder(data_dir, create=False) as folder:
            file = os.open("lock", os.O_RDONLY | _SAFE, dir_fd=folder)
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
    """Return the path of a data folder's lock file."""
    return Path(data_dir) / "run" / "lock"


@contextlib.contextmanager
def _run_folder(data_dir: Path | str, *, create: bool) -> Iterator[int]:
    """Open the folder `run` as a descriptor, so that replacing the path afterwards has no effect on the caller."""
    above = os.open(data_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    folder = -1
    try:
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir("run", 0o700, dir_fd=above)
        folder = os.open("run", os.O_RDONLY | os.O_DIRECTORY | _SAFE, dir_fd=above)
        yield folder
    finally:
        os.close(above)
        if folder >= 0:
            os.close(folder)


def _check_plain(file: int, path: Path) -> None:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise OSError(errno.EPERM, "not a plain file of its own", str(path))


def _take(file: int, data_dir: Path) -> None:
    for n in range(_TRIES):
        if n:
            time.sleep(_PAUSE)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    raise AlreadyRunningError(_pid(file) or None, data_dir)


def _pid(file: int) -> int:
    """Return the process id in the file, or 0 if the holder has not written it yet."""
    text = os.pread(file, 20, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() and text.isascii() else 0
