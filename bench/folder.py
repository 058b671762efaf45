"""The folder a benchmark works in: on a real disk, for a sync that costs nothing measures nothing."""

import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.processes import run
from bench.words import BenchError

_SYNCS = 100
_IN_MEMORY = ("tmpfs", "ramfs")


def filesystem(path: Path) -> str:
    """The type of the file system that holds the path, as the kernel names it."""
    resolved = path.resolve()
    best, kind = Path("/"), "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mounted, this, *_ = line.split(" ")
        point = Path(mounted.replace("\\040", " "))
        if resolved.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, this
    return kind


@contextlib.contextmanager
def working_folder(parent: Path | None, *, keep: bool) -> Iterator[Path]:
    """A new folder that other users can walk through (Postfix changes to its own), removed afterwards."""
    parent = parent if parent is not None else Path(tempfile.gettempdir())
    kind = filesystem(parent)
    if kind in _IN_MEMORY:
        raise BenchError(f"{parent} is in memory ({kind}); name a folder on a disk with --folder.")
    parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="relay-bench-", dir=parent))
    made.chmod(0o755)
    try:
        _check_walkable(made)
        yield made
    finally:
        if keep:
            print(f"kept: {made}")
        else:
            shutil.rmtree(made, ignore_errors=True)


def sync_milliseconds(folder: Path) -> float:
    """Median time to append 4 KiB to a file there and sync it: what a commit costs at least."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(_SYNCS):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


def checked_out(revision: str, folder: Path) -> Path:
    """The project's files as of a revision, in a new folder: nobody changes them while they run."""
    made = folder / "checkout"
    made.mkdir()
    archive = folder / "checkout.tar"
    run(["git", "archive", "--output", archive, revision], cwd=Path(__file__).parents[1])
    run(["tar", "-x", "-f", archive, "-C", made])
    return made


def _check_walkable(path: Path) -> None:
    for folder in path.resolve().parents:
        if os.geteuid() == 0 and not folder.stat().st_mode & 0o001:
            raise BenchError(f"{folder} is closed to Postfix's user; name another folder with --folder.")
