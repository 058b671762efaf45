"""A process that upgrades copies of a data folder, each under another fault; it writes one line of JSON for each.

    python queue_upgrade.py kill FOLDER WORK STRIDE
    python queue_upgrade.py full FOLDER WORK STEP

`kill` ends the upgrade by SIGKILL at its n-th event, for n = 1, 2, ... until an upgrade ends by itself. An event is the
start of a statement or, with a STRIDE above 0, every STRIDE instructions of SQLite's virtual machine; the line is the
statement. `full` limits the size of every file to STEP, 2 * STEP, ... bytes until an upgrade succeeds; the line is the
kind and the text of the error. The copies are the folders WORK/1, WORK/2, ...
"""

import itertools
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

from relay_queue.protocol import QueueError
from relay_queue.sqlite import connect as module
from relay_queue.sqlite import open_admin

_Plain = module._Connection


def tell(line: object) -> None:
    """One line at once; a pipe takes it whole."""
    os.write(1, json.dumps(line).encode() + b"\n")


class _Killed(_Plain):
    """A connection that kills its process at the `last` event."""

    last, stride, count = 0, 0, 0

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        if self.stride:
            self.set_progress_handler(self.event, self.stride)
        else:
            self.set_trace_callback(self.event)

    @classmethod
    def event(cls, statement: str = "") -> int:
        _Killed.count += 1
        if _Killed.count == cls.last:
            tell(statement)
            os.kill(os.getpid(), signal.SIGKILL)
        return 0


def killed(folder: Path, last: int, stride: int) -> bool:
    """Upgrade in a child process; whether it was killed."""
    child = os.fork()
    if child == 0:
        _Killed.last, _Killed.stride = last, stride
        module._Connection = _Killed
        module.prepare(folder)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, status
    return status != 0


def full(folder: Path, size: int) -> bool:
    """Upgrade while no file may grow beyond a size; whether that was not enough."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        open_admin(folder).close()
    except QueueError as error:
        said = [type(error).__name__, str(error)]
    else:
        return False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    tell(said)
    return True


def main() -> None:
    """Go on until an upgrade succeeds."""
    way, folder, work, step = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    for n in itertools.count(1):
        copy = shutil.copytree(folder, work / str(n))
        if not (killed(copy, n, step) if way == "kill" else full(copy, n * step)):
            return


if __name__ == "__main__":
    main()
