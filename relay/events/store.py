"""Where events are kept: `events/YYYY-MM-DD-SLOT.jsonl` in the data folder, one file per worker and day (UTC).

One JSON object a line, in order of time. Files are whole days, so forgetting is removing files.
"""

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})-([A-Za-z0-9_]+)\.jsonl", re.ASCII)


@dataclass(slots=True, frozen=True)
class EventFile:
    """One file of the store."""

    path: Path
    day: str
    """`YYYY-MM-DD`."""
    slot: str
    """Who writes it: a worker's number, `supervisor`, `cli`."""


def folder(data_dir: Path) -> Path:
    """Where the files are."""
    return data_dir / "events"


def day_of(now: float) -> str:
    """The day (UTC) of a time."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def file_for(data_dir: Path, slot: str, now: float) -> Path:
    """The file for events of now."""
    return folder(data_dir) / f"{day_of(now)}-{slot}.jsonl"


def files(data_dir: Path) -> list[EventFile]:
    """All files there are, oldest day first. Other names in the folder are left alone."""
    try:
        names = sorted(path.name for path in folder(data_dir).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for match in map(_NAME.fullmatch, names) if match is not None]
    return [EventFile(folder(data_dir) / match[0], match[1], match[2]) for match in matches]


def prune(data_dir: Path, before: float) -> int:
    """Remove the files of days that ended before that time (epoch seconds); returns how many."""
    first = day_of(before)
    gone = [file for file in files(data_dir) if file.day < first]
    for file in gone:
        file.path.unlink(missing_ok=True)
    return len(gone)
