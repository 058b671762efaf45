"""Deliveries whose record met a damaged page: kept in a file of their own, for the salvage to carry over.

Without it, whoever was sent mail between the first damage and the salvage would be sent it again. Only deliveries are
kept: any other outcome is come to anew by another attempt. Must not need the database.
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
"""In the data folder; a JSON line for each recipient."""
_decode = msgspec.json.Decoder(Mark).decode


def keep_or_tell(data_dir: Path, marks: Sequence[Mark]) -> None:
    """As `keep`; what cannot be kept is logged."""
    try:
        keep(data_dir, marks)
    except OSError as error:
        _log.critical("deliveries could not be recorded and will be repeated: %s", error)


def keep(data_dir: Path, marks: Sequence[Mark]) -> None:
    """Add the deliveries among some outcomes, durably. Raises OSError."""
    lines = b"".join(msgspec.json.encode(mark) + b"\n" for mark in marks if mark.state is State.DELIVERED)
    if not lines:
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(data_dir / NAME, flags, 0o600)
    try:
        # A line that was torn by a crash must not swallow this one.
        os.write(descriptor, b"\n" + lines)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def kept(data_dir: Path) -> Iterator[Mark]:
    """The deliveries that were kept; a torn line is passed over. Raises OSError."""
    try:
        lines = (data_dir / NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in filter(None, lines):
        try:
            yield _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
