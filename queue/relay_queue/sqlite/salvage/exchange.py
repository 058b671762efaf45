"""Replaces a damaged queue by a new one. If the process is killed at any point, neither of the two is lost.

    data_dir/salvage/queue.db              the new queue while it is being built
    data_dir/salvage/kept/                 the damaged queue with its log and all body files, before it is renamed
    data_dir/salvage/ready                 all of the above is complete: the exchange has begun
    data_dir/queue.damaged-20261128T…Z/    where the damaged queue is kept permanently

As long as `ready` does not exist, a new attempt starts over; afterwards it only completes the exchange. Meanwhile
`connect.prepare` refuses to open the queue, because SQLite would apply the old log to the new file.
"""

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path

import msgspec

from relay_queue.durable import Disk
from relay_queue.folder import private_folder
from relay_queue.protocol import QueueDamagedError, QueueError
from relay_queue.sqlite import unrecorded
from relay_queue.sqlite.connect import FILE_NAME, READY, WORK, connect, create, folder_lock
from relay_queue.sqlite.faults import FOREIGN, as_queue_error
from relay_queue.sqlite.salvage.pages import Image
from relay_queue.sqlite.salvage.refill import Salvaged, refill
from relay_queue.sqlite.salvage.tables import version_of
from relay_queue.sqlite.sql import queries

_KEPT = "kept"
_LOG, _SHARED = f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"


class Ready(msgspec.Struct, frozen=True):
    """The contents of the file `ready`."""

    kept: str
    """Name of the folder, within the data folder, in which the damaged queue is kept."""
    salvaged: Salvaged


def salvage(data_dir: Path, now: float, disk: Disk | None = None) -> Ready:
    """Replace the queue of a data folder by a new one with all data that can be read. Raises `QueueError`.

    No server may run. The damaged queue is kept. If the process is killed, call this function again. `now` is in
    seconds since the epoch.
    """
    private_folder(data_dir)
    try:
        with folder_lock(data_dir):
            return _salvage(data_dir, now, disk or Disk())
    except FOREIGN as error:
        raise as_queue_error(error, f"salvaging the queue of {data_dir}") from error


def _salvage(data_dir: Path, now: float, disk: Disk) -> Ready:
    work = data_dir / WORK
    if not (work / READY).exists():
        if not (data_dir / FILE_NAME).exists():
            raise QueueError(f"{data_dir} has no queue")
        if work.exists():
            shutil.rmtree(work)
        private_folder(work)
        salvaged = _make(data_dir, work, now, disk)
        _keep(data_dir, work / _KEPT, disk)
        _write(work / READY, msgspec.json.encode(Ready(_free_name(data_dir, now).name, salvaged)), disk)
    ready = msgspec.json.decode((work / READY).read_bytes(), type=Ready)
    _exchange(data_dir, work, data_dir / ready.kept, disk)
    return ready


def _make(data_dir: Path, work: Path, now: float, disk: Disk) -> Salvaged:
    """Build the new queue completely and durably."""
    path = work / FILE_NAME
    files = {entry.name for entry in (data_dir / "bodies").glob("??/*") if entry.is_file()}
    with Image(data_dir / FILE_NAME) as image:
        create(path, version_of(image))
        new = connect(path)
        try:
            new.execute("PRAGMA synchronous = OFF")  # the whole file is synced at the end
            salvaged = refill(new, image, files, list(unrecorded.kept(data_dir)), now)
            _check(new)
            new.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            new.close()
    salvaged.lost_rows += len(image.unreadable)
    _sync(path, disk)
    disk.sync_folder(work)
    return salvaged


def _check(new: sqlite3.Connection) -> None:
    rows = new.execute(queries("admin")["integrity"]).fetchall()
    if rows != [("ok",)]:
        raise QueueDamagedError(f"the new queue is damaged as well, so the disk or the memory is: {rows[0][0]}")


def _free_name(data_dir: Path, now: float) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    name, n = data_dir / f"{FILE_NAME.removesuffix('.db')}.damaged-{stamp}", 1
    while name.exists():
        n += 1
        name = name.with_name(f"{name.name.partition('Z')[0]}Z-{n}")
    return name


def _keep(data_dir: Path, kept: Path, disk: Disk) -> None:
    """Give each file of the damaged queue a second name, in a folder where nothing removes it."""
    disk.make_folder(kept)
    for name in (FILE_NAME, _LOG, unrecorded.NAME):
        if (data_dir / name).exists():
            _second_name(data_dir / name, kept / name)
    bodies = data_dir / "bodies"
    for path in sorted(bodies.glob("??/*")):
        if path.is_file() and not path.is_symlink():
            folder = kept / "bodies" / path.parent.name
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _second_name(path, folder / path.name)
    for folder in (*(kept / "bodies").glob("*"), kept / "bodies", kept):
        if folder.is_dir():
            disk.sync_folder(folder)


def _second_name(path: Path, new: Path) -> None:
    try:
        os.link(path, new, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, new, follow_symlinks=False)
        with new.open("rb") as file:
            os.fsync(file.fileno())


def _exchange(data_dir: Path, work: Path, kept: Path, disk: Disk) -> None:
    """Complete the exchange. An earlier, interrupted attempt may already have done any of the steps."""
    if (work / _KEPT).exists():
        disk.rename(work / _KEPT, kept)
        disk.sync_folder(data_dir)
    if (work / FILE_NAME).exists():
        # Remove the log first: SQLite would apply it to the new file.
        for name in (_LOG, _SHARED):
            disk.remove(data_dir / name)
        disk.sync_folder(data_dir)
        disk.rename(work / FILE_NAME, data_dir / FILE_NAME)
        disk.sync_folder(data_dir)
    disk.remove(data_dir / unrecorded.NAME)
    disk.sync_folder(data_dir)
    disk.remove(work / READY)
    disk.sync_folder(work)
    shutil.rmtree(work)
    disk.sync_folder(data_dir)


def _sync(path: Path, disk: Disk) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def _write(path: Path, content: bytes, disk: Disk) -> None:
    fresh = path.with_name(f"{path.name}.new")
    descriptor = disk.create(fresh)
    try:
        with contextlib.closing(os.fdopen(descriptor, "r+b", closefd=False)) as file:
            file.write(content)
        disk.sync(descriptor)
    finally:
        os.close(descriptor)
    disk.rename(fresh, path)
    disk.sync_folder(path.parent)
