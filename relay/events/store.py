"""Where events are kept: `events/YYYY-MM-DD-SLOT.jsonl` in the data folder, for each process and day (UTC).

Each line is a JSON object; lines are in order of time. A day with many events continues in further files, the
*segments* `YYYY-MM-DD-SLOT.1.jsonl`, `…-SLOT.2.jsonl` and so on, so that old events are deleted by removing whole
files: those of days that ended too long ago, and the oldest ones while the folder exceeds its size limit.
"""

import re
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})-([A-Za-z0-9_]+)(?:\.(\d{1,9}))?\.jsonl", re.ASCII)
_DAY: Final = 86_400.0
"""Seconds."""


@dataclass(slots=True, frozen=True)
class EventFile:
    """One file of the store."""

    path: Path
    day: str
    """`YYYY-MM-DD`."""
    slot: str
    """The process that writes it: a worker's number, `supervisor` or `cli`."""
    number: int = 0
    """Segment of the day; the first is 0 and has no number in its name."""


def folder(data_dir: Path) -> Path:
    """Return the folder of the event files."""
    return data_dir / "events"


def day_of(now: float) -> str:
    """Return the day (UTC) of a time in seconds since the epoch, as `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def segment(data_dir: Path, slot: str, day: str, number: int) -> Path:
    """The file for one segment of a day."""
    return folder(data_dir) / (f"{day}-{slot}.{number}.jsonl" if number else f"{day}-{slot}.jsonl")


def files(data_dir: Path) -> list[EventFile]:
    """All files there are, oldest day first, each slot's segments in order. Other names in the folder are ignored."""
    try:
        names = [path.name for path in folder(data_dir).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    matches = [match for match in map(_NAME.fullmatch, names) if match is not None]
    found = [EventFile(folder(data_dir) / match[0], match[1], match[2], int(match[3] or 0)) for match in matches]
    return sorted(found, key=lambda file: (file.day, file.slot, file.number))


def prune(data_dir: Path, before: float) -> int:
    """Remove the files of days that ended before `before` (epoch seconds); returns how many."""
    first = day_of(before)
    gone = [file for file in files(data_dir) if file.day < first]
    for file in gone:
        file.path.unlink(missing_ok=True)
    return len(gone)


def shrink(data_dir: Path, most: int, now: float) -> int:
    """Remove the oldest files while the total size exceeds `most` bytes; returns how many.

    Files that a process may be writing are kept, whatever their size.
    """
    sized = [(file, size) for file in files(data_dir) if (size := _size(file.path)) is not None]
    excess = sum(size for _, size in sized) - most
    if excess <= 0:
        return 0
    kept = in_use([file for file, _ in sized], now)
    removed = 0
    for file, size in sized:
        if excess <= 0:
            break
        if file not in kept:
            file.path.unlink(missing_ok=True)
            excess -= size
            removed += 1
    return removed


def in_use(all_files: list[EventFile], now: float) -> set[EventFile]:
    """Return the files that a process may be writing: each slot's last segment of today and of the day before.

    The day before is included because a process may choose its file just before midnight and write just after it. The
    last segment of the newest day is included too, because the clock may have been set back.
    """
    days = {day_of(now), day_of(now - _DAY)}
    kept = set()
    ordered = sorted(all_files, key=lambda file: (file.slot, file.day, file.number))
    for _, group in groupby(ordered, key=lambda file: file.slot):
        slot = list(group)
        last = {file.day: file for file in slot}
        kept |= {last[day] for day in days if day in last} | {slot[-1]}
    return kept


def _size(path: Path) -> int | None:
    """Return the size of a file in bytes, or None if it does not exist (any more) or is not a regular file."""
    try:
        return path.stat().st_size if path.is_file() else None
    except FileNotFoundError:
        return None
