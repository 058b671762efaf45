"""The operations passed to the writer thread: one record for each call of the server's interface."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from relay_queue.bodies import SpoolFile
from relay_queue.model import Mark, Put
from relay_queue.sqlite.apply import Changes


class PutOperation(msgspec.Struct, eq=False):
    """Store a message."""

    put: Put
    future: asyncio.Future[None]
    file: SpoolFile | None = None
    """The temporary file of a large body, which is made durable before the transaction."""
    file_crc: int | None = None


class MarkOperation(msgspec.Struct, eq=False):
    """Record outcomes with the DSNs they cause: all or nothing."""

    marks: Sequence[Mark]
    notices: Sequence[Put]
    future: asyncio.Future[list[Mark]]
    refused: list[Mark] = msgspec.field(default_factory=list)


class CallOperation(msgspec.Struct, eq=False):
    """Any other, rarer write: a function of the connection, run inside the batch's transaction."""

    run: Callable[[Changes], Any]
    future: asyncio.Future[Any]
    result: Any = None


Operation = PutOperation | MarkOperation | CallOperation


def awaited(batch: Sequence[Operation]) -> int:
    """How many operations of a batch a caller waits for: all except marks."""
    return len(batch) - list(map(type, batch)).count(MarkOperation)


def body_files(batch: Iterable[Operation]) -> list[str]:
    """The body files of the messages of a batch."""
    puts = [operation.put for operation in batch if isinstance(operation, PutOperation)]
    return [put.body.file for put in puts if put.body.file is not None]
