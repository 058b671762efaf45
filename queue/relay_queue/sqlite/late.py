"""Refuses operations that wait too long for the write lock, because its holder may hang and clients need an answer.

The writer thread waits for the lock in the kernel, which passes it on in order; this wait has no timeout. So the event
loop checks how long the thread has waited, and refuses the operations that clients wait for. A mutex keeps both sides
consistent: a refused operation is not stored if the lock arrives later, and an operation being stored is not refused.
Outcomes of deliveries are never refused here; they can wait.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Final

from relay_queue.bodies import Bodies
from relay_queue.protocol import QueueError
from relay_queue.sqlite.connect import TurnLock
from relay_queue.sqlite.operations import MarkOperation, Operation, PutOperation

PATIENCE: Final = 3.5
"""Seconds after which operations are refused. With the time between two checks, clients get an answer within five."""
LOOK_EVERY: Final = 0.5
"""Seconds between checks."""


class Late:
    """The overdue operations of one writer."""

    def __init__(self, turn: TurnLock, inbox: SimpleQueue[Operation | None], bodies: Bodies) -> None:
        self._turn = turn
        self._bodies = bodies
        self._inbox = inbox
        self._agreed = threading.Lock()
        self._refused: set[int] = set()
        """`id()` of refused operations in the batch; the batch keeps the objects alive, so the ids stay unique."""

    def refuse(self, batch: Sequence[Operation]) -> None:
        """Fail operations that have waited too long with a `QueueError`. Runs on the event loop."""
        since = self._turn.waiting_since
        if since is None or time.monotonic() - since < PATIENCE:
            return
        for operation in self._withdraw(batch):
            if isinstance(operation, PutOperation) and operation.file is not None:
                self._bodies.discard(operation.file)
            if not operation.future.done():
                operation.future.set_exception(QueueError("another process has held the queue for too long"))

    def _withdraw(self, batch: Sequence[Operation]) -> list[Operation]:
        with self._agreed:
            if self._turn.waiting_since is None:
                return []
            late = [operation for operation in batch if not _can_wait(operation) and id(operation) not in self._refused]
            self._refused.update(map(id, late))
            waiting: list[Operation | None] = []
            with contextlib.suppress(Empty):
                while True:
                    waiting.append(self._inbox.get_nowait())
            for operation in waiting:
                if operation is None or _can_wait(operation):
                    self._inbox.put(operation)
                else:
                    late.append(operation)
        return late

    def part(self, batch: Sequence[Operation]) -> tuple[list[Operation], list[Operation]]:
        """Split a batch into (operations to run, refused operations). The writer thread calls it with the lock held."""
        with self._agreed:
            refused, self._refused = self._refused, set()
        if not refused:
            return list(batch), []
        return [each for each in batch if id(each) not in refused], [each for each in batch if id(each) in refused]


def _can_wait(operation: Operation) -> bool:
    return isinstance(operation, MarkOperation)
