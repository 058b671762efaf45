"""Files that say that the queue stopped: left by workers, looked for by `relay check` and by the next start.

`run/queue-failed-N` is of one run: worker N could not write any more, and its successor removes the file.
`queue-damaged` lasts: what is stored cannot be trusted, so no start accepts mail on top of it until
`relay queue salvage` has made a new queue.
"""

import os
import time
from pathlib import Path
from typing import Final

MARKER: Final = "queue-failed-"
"""Followed by the worker's slot; the file holds the reason."""
DAMAGED: Final = "queue-damaged"
"""In the data folder itself: when damage was met, by whom, and what it was, in a line."""
_MOST: Final = 2000
"""Octets of the line that are read back."""


class DamagedError(Exception):
    """The queue is known to be damaged; the text says since when and what to do."""

    def __init__(self, data_dir: Path, what: str) -> None:
        super().__init__(
            f"{data_dir}: the queue is damaged ({what}). Run `relay queue salvage`: it copies what can be read into a "
            "new queue and keeps the damaged one. Then start the relay again."
        )


def leave_damage(data_dir: Path, who: str, what: str, now: float) -> None:
    """Note that damage was met; the first note stays. Raises OSError."""
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
    """The note about damage in one line, or None where there is none. Raises OSError."""
    try:
        descriptor = os.open(data_dir / DAMAGED, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return " ".join(os.read(descriptor, _MOST).decode(errors="replace").split()) or "unknown damage"
    finally:
        os.close(descriptor)


def forget_damage(data_dir: Path) -> None:
    """The damaged queue was replaced. Raises OSError."""
    for failed in (data_dir / "run").glob(f"{MARKER}*"):
        failed.unlink(missing_ok=True)
    (data_dir / DAMAGED).unlink(missing_ok=True)
