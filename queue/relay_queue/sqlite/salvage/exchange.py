"""Puts a new queue in the place of a damaged one, so that a kill at any instant loses neither.

    data_dir/salvage/queue.db              the new queue while it is being made
    data_dir/salvage/kept/                 the damaged queue with its log and all body files, before it gets its name
    data_dir/salvage/ready                 all of this is whole: the exchange has begun
    data_dir/queue.damaged-20261128T…Z/    where the damaged queue is kept for good

Until `ready` is there, a new attempt begins anew; from then on it only ends the exchange. Meanwhile nobody opens the
queue (`connect.prepare` refuses), since the old log beside the new file would be taken for its own.
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
    """What `ready` holds."""

    kept: str
    """Name of the folder, in the data folder, that keeps the damaged queue."""
    salvaged: Salvaged


def salvage(data_dir: Path, now: float, disk: Disk | None = None) -> Ready:
    """Replace the queue of a data folder by a new one with all that can be read. Raises `QueueError`.

    No server may run. The damaged queue is kept. After a kill, call it again.
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
    """The new queue, whole and on disk."""
    path = work / FILE_NAME
    files = {entry.name for entry in (data_dir / "bodies").glob("??/*") if entry.is_file()}
    with Image(data_dir / FILE_NAME) as image:
        create(path, version_of(image))
        new = connect(path)
        try:
            new.execute("PRAGMA synchronous = OFF")  # all of it is synced at the end
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
    """Give the damaged queue's files a second name each, where nothing removes them."""
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
    """Every step may have been done before."""
    if (work / _KEPT).exists():
        disk.rename(work / _KEPT, kept)
        disk.sync_folder(data_dir)
    if (work / FILE_NAME).exists():
        # First the log: beside the new file it would be taken for that one's.
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
