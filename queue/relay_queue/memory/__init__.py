"""The queue in plain dictionaries: a small but complete backend, for tests and as the model for other backends.

`Store` holds the data; `MemoryQueue` and `MemoryAdmin` are its two interfaces. Nothing outlives the process except the
files of large bodies, so it must not be used where a 250 reply means that the message is on disk.
"""

from relay_queue.memory.admin import MemoryAdmin
from relay_queue.memory.server import MemoryQueue
from relay_queue.memory.store import Store

__all__ = ["MemoryAdmin", "MemoryQueue", "Store"]
