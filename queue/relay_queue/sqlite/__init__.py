"""The queue in one SQLite file: the default backend, embedded, shared by the worker processes of one machine."""

from pathlib import Path

from relay_queue.durable import Disk
from relay_queue.protocol import Admin, Queue


def open_queue(data_dir: Path, *, slot: int, disk: Disk | None = None) -> Queue:
    """Open (creating or migrating) the queue of a data folder for the worker `slot`. Raises `QueueError`."""
    from relay_queue.sqlite.store import SqliteQueue

    return SqliteQueue(data_dir, slot=slot, disk=disk)


def open_admin(data_dir: Path) -> Admin:
    """Open (creating or migrating) the queue of a data folder for the shell. Raises `QueueError`."""
    from relay_queue.sqlite.admin import SqliteAdmin

    return SqliteAdmin(data_dir)
