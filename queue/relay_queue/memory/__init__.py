"""The queue in plain dictionaries: a small real one, for tests and for reading what the other backends must do.

`Store` holds the data, `MemoryQueue` and `MemoryAdmin` are its two faces. Nothing outlives the process but the files of
large bodies, so it must not serve where 250 means on disk.
"""

from relay_queue.memory.admin import MemoryAdmin
from relay_queue.memory.server import MemoryQueue
from relay_queue.memory.store import Store

__all__ = ["MemoryAdmin", "MemoryQueue", "Store"]
