"""Kills workers that hang after their supervisor died; they are found by the lock that they inherited from it.

The kernel shows which processes hold a lock and which one took it (proc(5), `/proc/PID/fdinfo`). So no list of process
ids is needed, and a process that reuses an id is never mistaken for a worker. PR_SET_PDEATHSIG was rejected because it
gives healthy workers no grace period, and a watching thread because it hangs together with its process. `end` must not
be called before healthy workers had their grace period, and it must not kill another user's process: whoever can write
to the data folder could replace the lock by a link to a file that somebody else has locked.
"""

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Final

from relay.process.lock import lock_path

_LOCK: Final = re.compile(r"^lock:\s+\d+: FLOCK +ADVISORY +WRITE (-?\d+) ", re.MULTILINE)
_USER: Final = re.compile(r"^Uid:\s+(\d+)", re.MULTILINE)


def end(data_dir: Path, uid: int | None = None) -> list[int]:
    """Kill workers of user `uid` (None: our own) that hold `data_dir` without a supervisor; returns their process ids.

    If a worker holds the write lock, only that one is killed: the others may be waiting for it, with mail to commit.
    """
    lock = lock_path(data_dir)
    takers = _takers(lock)
    if any(pid == taker for pid, taker in takers.items()):
        return []
    writing = _takers(data_dir / "writer.lock")
    owner = os.geteuid() if uid is None else uid
    return [pid for pid in [pid for pid in takers if pid in writing] or takers if _kill(pid, lock, owner)]


def holds(pid: int, path: Path) -> bool:
    """Whether a process holds the lock on the file. A process that may not be inspected counts as a holder."""
    try:
        return _taker(pid, path.stat()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True


def _takers(path: Path) -> dict[int, int]:
    """Return the processes that hold the lock on the file, each with the id of the process that took it."""
    takers = {}
    with contextlib.suppress(FileNotFoundError):
        file = path.stat()
        for pid in [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]:
            with contextlib.suppress(OSError):
                if (taker := _taker(pid, file)) is not None:
                    takers[pid] = taker
    return takers


def _taker(pid: int, file: os.stat_result) -> int | None:
    for descriptor in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            found = _LOCK.search(descriptor.read_text())
            if found and os.path.samestat(Path(f"/proc/{pid}/fd/{descriptor.name}").stat(), file):
                return int(found[1])
    return None


def _kill(pid: int, lock: Path, uid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        try:
            if holds(pid, lock) and _user_of(pid) == uid:  # still, and by the process that `process` now stands for
                signal.pidfd_send_signal(process, signal.SIGKILL)
                return True
        finally:
            os.close(process)
    return False


def _user_of(pid: int) -> int | None:
    """Return the real user id (proc(5)), or None if it ended. The owner of its files is root if it was once root."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = _USER.search(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"))
        return None if found is None else int(found[1])
    return None
