"""Each worker reports the state of its lanes in `run/lanes-N.json`, for `relay queue list` and `show`.

A report is written at most a second after a change, and once more when nothing waits any longer; an idle relay writes
nothing. A report is valid only while its worker lives: `read` returns reports that are at most a few seconds old, and
the caller first checks that a server runs. The server itself never reads reports: what it needs is in the queue.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from relay.delivery.report_records import WorkerReport
from relay.events.recorder import Recorder

_EVERY: Final = 1.0
_SHARE: Final = 100
"""After a report there is a pause of this many times its duration, so that reports use at most 1 % of a core."""
FRESH: Final = 5.0
"""Seconds for which a report is valid. A busy worker writes the next one late; a worker that hangs writes none."""
_MOST: Final = 64 << 20
"""Maximum number of bytes read from a file: far more than any report has."""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(WorkerReport).decode


class Reporter:
    """Publishes one worker's reports. `make` returns the current one."""

    def __init__(self, data_dir: Path, slot: int, recorder: Recorder, make: Callable[[], WorkerReport]) -> None:
        self._path = _path(data_dir, slot)
        self._recorder = recorder
        self._make = make
        self._told = False
        """Whether the file says that something waits."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start publishing."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop publishing and remove the last report."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._path.unlink(missing_ok=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._publish()
            except (OSError, RuntimeError) as error:
                # A full disk, or no thread available. Users see less; mail is not affected.
                self._recorder.problem("report", error)
            await asyncio.sleep(max(_EVERY, (loop.time() - began) * _SHARE))

    async def _publish(self) -> None:
        report = self._make()
        waits = bool(report.lanes or report.suspended)
        if waits or self._told:
            await asyncio.to_thread(_write, self._path, _encode(report))
            self._told = waits


def read(data_dir: Path, now: float) -> list[WorkerReport]:
    """Return the reports of the last `FRESH` seconds. Unreadable ones are left out."""
    found = []
    for path in sorted((data_dir / "run").glob("lanes-*.json")):
        try:
            with path.open("rb") as file:
                report = _decode(file.read(_MOST))
        except (OSError, msgspec.MsgspecError):
            continue
        if abs(now - report.at) <= FRESH:
            found.append(report)
    return found


def clear(data_dir: Path) -> None:
    """Remove reports of an earlier run. Only for the holder of the data folder's lock, before workers start."""
    for path in (data_dir / "run").glob("lanes-*"):
        path.unlink(missing_ok=True)


def forget(data_dir: Path, slot: int) -> None:
    """Remove the report of a worker that died."""
    _path(data_dir, slot).unlink(missing_ok=True)


def _path(data_dir: Path, slot: int) -> Path:
    return data_dir / "run" / f"lanes-{slot}.json"


def _write(path: Path, octets: bytes) -> None:
    """Replace the last report atomically. The file is not synced, because a report is worthless after a crash."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while octets:
            octets = octets[os.write(descriptor, octets) :]
    finally:
        os.close(descriptor)
    new.replace(path)
