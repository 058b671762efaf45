"""The queue in one SQLite file: the default backend, embedded, shared by the worker processes of one machine."""

from pathlib import Path
from typing import TYPE_CHECKING

from relay_queue.durable import Disk
from relay_queue.protocol import Admin, Queue

if TYPE_CHECKING:
    from relay_queue.sqlite.salvage.exchange import Ready


def open_queue(data_dir: Path, *, disk: Disk | None = None) -> Queue:
    """Open (creating or migrating) the queue of a data folder. Raises `QueueError`."""
    from relay_queue.sqlite.store import SqliteQueue

    return SqliteQueue(data_dir, disk=disk)


def open_admin(data_dir: Path) -> Admin:
    """Open (creating or migrating) the queue of a data folder for the shell. Raises `QueueError`."""
    from relay_queue.sqlite.admin import SqliteAdmin

    return SqliteAdmin(data_dir)


def salvage_queue(data_dir: Path, now: float) -> "Ready":
    """Replace a damaged queue by a new one with all that can be read of it. Raises `QueueError`."""
    from relay_queue.sqlite.salvage.exchange import salvage

    return salvage(data_dir, now)
