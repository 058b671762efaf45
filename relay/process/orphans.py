"""Workers that outlived their supervisor and do not end: told by the lock that they share with it, and killed.

The kernel says who has a lock and whose call took it (proc(5), `/proc/PID/fdinfo`). So no list of process ids must be
kept, and a number that belongs to another process by now is never taken for a worker. Not PR_SET_PDEATHSIG: it would
take the grace from workers that are well; not a thread that watches: it stops with its process. Must not be asked
before workers that are well had their grace, nor kill a process of another user: whoever can write to the data folder
could have put a link in place of the lock, to a file that somebody else has locked.
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
    """Kill workers of user `uid` (None: our own) that hold `data_dir` without their supervisor; returns their ids.

    One that has the turn to write goes first, and alone: the others may only be waiting for it, with mail to commit.
    """
    lock = lock_path(data_dir)
    takers = _takers(lock)
    if any(pid == taker for pid, taker in takers.items()):
        return []
    writing = _takers(data_dir / "writer.lock")
    owner = os.geteuid() if uid is None else uid
    return [pid for pid in [pid for pid in takers if pid in writing] or takers if _kill(pid, lock, owner)]


def holds(pid: int, path: Path) -> bool:
    """Whether a process has the lock on the file; what may not be looked into counts as a yes."""
    try:
        return _taker(pid, path.stat()) is not None
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True


def _takers(path: Path) -> dict[int, int]:
    """The processes that have the lock on the file, with the number of the one that took it."""
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
        with contextlib.suppress(FileNotFoundError):  # closed since
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
    """The real user of a process (proc(5)); None when it has ended. The files' owner is root for one that was root."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        found = _USER.search(Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace"))
        return None if found is None else int(found[1])
    return None
