"""Opens the database file: checks that it is ours, migrates its schema, and sets the options of every connection.

A file of another program or of a newer version is refused before anything in it is changed.
"""

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

from relay_queue.folder import private_file, private_folder
from relay_queue.protocol import QueueError, QueueVersionError
from relay_queue.sqlite.faults import FOREIGN, Fault, as_queue_error, for_want_of_room
from relay_queue.sqlite.sql import migrations

APPLICATION_ID = 0x724C7931
"""`rLy1` in the file's header (sqlite.org/fileformat.html §1.3.14) identifies our files."""
FILE_NAME = "queue.db"
WORK, READY = "salvage", "ready"
"""Folder, and file in it, used while a salvage replaces the damaged queue by a new one (`salvage.exchange`)."""
BUSY_SECONDS = 4.0
"""Seconds that a writer waits for another program's transaction; these take milliseconds. Clients wait meanwhile."""
WAL_PAGES = 4000
"""Checkpoint when the log exceeds 16 MiB: rare enough to merge rewrites of a page, small enough to be quick."""
_LOG_LIMIT = 64 << 20
_WRITER_CACHE, _READER_CACHE = 32 << 10, 8 << 10
"""Page cache sizes in KiB; the kernel's cache also holds the file's pages."""
_PAGE = 4096
_MAGIC = b"SQLite format 3\0"
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510
"""The bytes of the file on which each open connection holds a read lock (sqlite.org/src/file/src/os.h)."""
_OLDEST_SQLITE = (3, 37)
"""The first version with STRICT tables."""


class _Connection(sqlite3.Connection):
    inode: tuple[int, int] | None = None
    """(device, inode) of the open file; None when closed."""

    def close(self) -> None:
        super().close()
        self.inode = None


_here = threading.Lock()
_connections: WeakSet[_Connection] = WeakSet()
"""The open connections of this process; guarded by `_here`."""


@contextmanager
def folder_lock(data_dir: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock that keeps migration and file cleanup (exclusive) apart from storing body files (`shared`).

    Raises OSError.
    """
    descriptor = os.open(data_dir / "queue.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class TurnLock:
    """The write lock: every process takes it around each transaction, so that writers take turns.

    SQLite polls its own lock with growing pauses, so that one of two busy writers starves: measured waits of 800 ms,
    against 20 ms with this lock, which the kernel hands over in order. SQLite's lock still protects the data; this one
    only orders the writers.
    """

    def __init__(self, data_dir: Path, patience: float | None = None) -> None:
        """`patience`: seconds after which waiting ends with `QueueError`; None waits without limit (see `late`)."""
        self._path = data_dir / "writer.lock"
        self._patience = patience
        self._descriptor = self._open()
        self._depth = 0
        """How many times its thread has taken it: the lock is reentrant."""
        self.waiting_since: float | None = None
        """Since when its thread has been waiting for it (monotonic seconds); None if it is not waiting."""

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        if self._depth == 0:
            if self._patience is not None:
                self._take_within(self._patience)
            else:
                self.waiting_since = time.monotonic()
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                self.waiting_since = None
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _take_within(self, seconds: float) -> None:
        """Take the lock or give up. A helper thread does the waiting, because flock(2) has no timeout.

        Polling does not work: under load the kernel passes the lock from one waiting process to the next, so it is
        never free.
        """
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        taken, agreed, descriptor = threading.Event(), threading.Lock(), self._descriptor
        given_up = False

        def wait() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with agreed:
                if given_up:
                    os.close(descriptor)  # this releases the lock too
                else:
                    taken.set()

        threading.Thread(target=wait, name="queue-turn", daemon=True).start()
        taken.wait(seconds)
        with agreed:
            if taken.is_set():
                return
            given_up = True
        self._descriptor = self._open()
        raise QueueError(f"another process has been writing to the queue for {seconds:.0f} seconds; try again later")

    def close(self) -> None:
        """Close the lock file."""
        os.close(self._descriptor)


def prepare(data_dir: Path) -> Path:
    """Check the folder and the file, create or migrate the database; returns its path. Raises `QueueError`."""
    private_folder(data_dir)
    path = data_dir / FILE_NAME
    try:
        with folder_lock(data_dir):
            if (data_dir / WORK / READY).exists():
                raise QueueVersionError(f"a salvage of {path} was interrupted; run `relay queue salvage` again")
            if private_file(path):
                _check_header_once(path)
            else:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
                os.close(descriptor)
            _migrate(path)
    except FOREIGN as error:
        fault = Fault.ROOM if for_want_of_room(error, data_dir) else None
        raise as_queue_error(error, f"opening {path}", fault) from error
    return path


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode (transactions are explicit), usable from any one thread at a time.

    Raises `QueueVersionError`, sqlite3.Error or OSError.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise QueueVersionError(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 is needed")
    with _here:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        connection.inode = _inode(path)
        _connections.add(connection)
    for pragma in (
        "synchronous = FULL",  # each commit is fsynced before the 250 reply
        f"wal_autocheckpoint = {WAL_PAGES}",
        f"journal_size_limit = {_LOG_LIMIT}",
        f"cache_size = {-_READER_CACHE if read_only else -_WRITER_CACHE}",
        "temp_store = MEMORY",
        "secure_delete = OFF",  # Debian enables it at compile time; each delete would write its pages once more
        "foreign_keys = OFF",  # the schema has none; every statement deletes the rows that it orphans
    ):
        connection.execute(f"PRAGMA {pragma}")
    if read_only:
        connection.execute("PRAGMA query_only = ON")
    return connection


def _inode(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def version_of(connection: sqlite3.Connection) -> tuple[int, int]:
    """(application id, schema version) of an open database."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    return application, connection.execute("PRAGMA user_version").fetchone()[0]


def _check_header_once(path: Path) -> None:
    # Closing any descriptor of a file drops all locks that the process has on it (fcntl(2)), including SQLite's. If
    # another process then closes the database, it believes it is the last one, and removes the log that this process
    # still writes to.
    with _here:
        if all(connection.inode != _inode(path) for connection in _connections):
            _check_header(path)


def _check_header(path: Path) -> None:
    # Read as a plain file: opening it with SQLite may already write to it (recovery of its log).
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return
    if not header.startswith(_MAGIC) or len(header) < 100:
        raise QueueVersionError(f"{path} is not a queue of ours; nothing was changed")
    application, version = int.from_bytes(header[68:72], "big"), version_in(header)
    if (application, version) != (0, 0):  # else it may be ours, killed during creation; _migrate checks further
        _check_version(path, application, version)


def _check_version(path: Path, application: int, version: int) -> None:
    if application != APPLICATION_ID:
        raise QueueVersionError(f"{path} belongs to another program; nothing was changed")
    if version > len(migrations()):
        raise QueueVersionError(
            f"{path} is of schema version {version}, this program knows up to {len(migrations())}: "
            "start the newer release that wrote it; nothing was changed"
        )


def create(path: Path, version: int) -> None:
    """Create an empty queue of a schema version. Raises OSError or sqlite3.Error."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    _migrate(path, version)


def is_ours(header: bytes) -> bool:
    """Whether a file's first page belongs to a queue of the relay."""
    return header.startswith(_MAGIC) and int.from_bytes(header[68:72], "big") == APPLICATION_ID


def version_in(header: bytes) -> int:
    """The schema version in the first page of a file."""
    return int.from_bytes(header[60:64], "big")


def _migrate(path: Path, last: int | None = None) -> None:
    connection = connect(path)
    try:
        application, version = version_of(connection)
        if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            connection.execute(f"PRAGMA page_size = {_PAGE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")
        else:
            _check_version(path, application, version)
        scripts = migrations()[:last]
        if 0 < version < len(scripts):
            connection.close()
            _check_unused(path)
            connection = connect(path)
        for number in range(version + 1, len(scripts) + 1):
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{scripts[number - 1]}\n"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number}; COMMIT;"
            )
        if version < len(scripts):
            # Copy the log into the file, so that the next program can read the version from the header alone.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            _sync_folder(path.parent)
    finally:
        connection.close()


def _check_unused(path: Path) -> None:
    """Refuse to migrate what another process has open.

    A running server of the older release would no longer find its columns, and what it delivers would stay unmarked and
    be delivered again. SQLite's own lock does not keep it out: an idle connection in WAL mode does not stop a writer.
    """
    with _here:
        if any(connection.inode == _inode(path) for connection in _connections):
            return  # closing the descriptor would drop the locks of those (see `_check_header_once`)
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
        except (BlockingIOError, PermissionError) as error:
            raise QueueError(
                f"{path} was made by an older release and is still in use: stop the relay and the commands that use "
                "it, then try again; nothing was changed"
            ) from error
        finally:
            os.close(descriptor)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
