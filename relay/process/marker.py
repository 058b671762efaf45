"""Marker files that report a stopped queue: written by workers, read by `relay check` and at the next start.

`run/queue-failed-N` is temporary: worker N could no longer write, and its successor removes the file.
`queue-damaged` is permanent: the stored data cannot be trusted, so no start accepts mail until `relay queue salvage`
has created a new queue.
"""

import os
import time
from pathlib import Path
from typing import Final

MARKER: Final = "queue-failed-"
"""Prefix of the file name, followed by the worker's slot; the file contains the reason."""
DAMAGED: Final = "queue-damaged"
"""File in the data folder; one line says when damage was found, by which process, and what it was."""
_MOST: Final = 2000
"""Maximum number of bytes of the line that are read back."""


class DamagedError(Exception):
    """The queue is damaged; the text says since when and what to do."""

    def __init__(self, data_dir: Path, what: str) -> None:
        super().__init__(
            f"{data_dir}: the queue is damaged ({what}). Run `relay queue salvage`: it copies what can be read into a "
            "new queue and keeps the damaged one. Then start the relay again."
        )


def leave_damage(data_dir: Path, who: str, what: str, now: float) -> None:
    """Record that damage was found. An existing record is kept. Raises OSError."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(data_dir / DAMAGED, flags, 0o600)
    except FileExistsError:
        return
    try:
        os.write(descriptor, f"{at} {who}: {what}\n".encode(errors="replace"))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage_of(data_dir: Path) -> str | None:
    """Return the record of damage as one line, or None if there is none. Raises OSError."""
    try:
        descriptor = os.open(data_dir / DAMAGED, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return " ".join(os.read(descriptor, _MOST).decode(errors="replace").split()) or "unknown damage"
    finally:
        os.close(descriptor)


def forget_damage(data_dir: Path) -> None:
    """Remove the record after the damaged queue was replaced. Raises OSError."""
    for failed in (data_dir / "run").glob(f"{MARKER}*"):
        failed.unlink(missing_ok=True)
    (data_dir / DAMAGED).unlink(missing_ok=True)
