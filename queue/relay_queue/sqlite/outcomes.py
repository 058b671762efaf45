"""Reports the outcomes of operations from the writer thread to the waiting event loop, once for a whole batch."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from relay_queue.protocol import QueueError
from relay_queue.sqlite.operations import MarkOperation, Operation, PutOperation

_log = logging.getLogger(__name__)

Outcome = tuple[asyncio.Future[Any], Any, QueueError | None]
"""(future, its result, its error)."""


def done(operation: Operation) -> Outcome:
    """The outcome of an operation that succeeded."""
    if isinstance(operation, PutOperation):
        return (operation.future, None, None)
    result = operation.refused if isinstance(operation, MarkOperation) else operation.result
    return (operation.future, result, None)


def tell(outcomes: Sequence[Outcome]) -> None:
    """Resolve the futures on their event loop; all must belong to the same loop."""
    if not outcomes:
        return
    loop = outcomes[0][0].get_loop()
    try:
        loop.call_soon_threadsafe(_resolve, outcomes)
    except RuntimeError:  # the loop is closed, so nobody waits any more
        _log.warning("%d operations ended after their event loop", len(outcomes))


def _resolve(outcomes: Sequence[Outcome]) -> None:
    for future, result, error in outcomes:
        if future.done():
            continue
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
