"""Deliveries that could not be recorded because of a damaged page: kept in a separate file for the salvage.

Without the file, mail that was delivered between the first damage and the salvage would be delivered again. Only
deliveries are kept: another attempt produces any other outcome again. Must not need the database.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from relay_queue.model import Mark
from relay_queue.states import State

_log = logging.getLogger(__name__)
NAME = "queue-delivered"
"""File name in the data folder; one JSON line for each recipient."""
_decode = msgspec.json.Decoder(Mark).decode


def keep_or_tell(data_dir: Path, marks: Sequence[Mark]) -> None:
    """As `keep`, but logs a failure and does not raise it."""
    try:
        keep(data_dir, marks)
    except OSError as error:
        _log.critical("deliveries could not be recorded and will be repeated: %s", error)


def keep(data_dir: Path, marks: Sequence[Mark]) -> None:
    """Append the deliveries among `marks` durably. Raises OSError."""
    lines = b"".join(msgspec.json.encode(mark) + b"\n" for mark in marks if mark.state is State.DELIVERED)
    if not lines:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(data_dir / NAME, flags, 0o600)
    try:
        # Start on a new line: a crash may have left an incomplete last line.
        os.write(descriptor, b"\n" + lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept(data_dir: Path) -> Iterator[Mark]:
    """The deliveries in the file; incomplete lines are skipped. Raises OSError."""
    try:
        lines = (data_dir / NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in filter(None, lines):
        try:
            yield _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
