"""Writes lines to files and pipes from a thread, so that a full pipe or a slow disk never stops the event loop.

What waits is bounded; beyond that lines are dropped and counted. Without a loop (the supervisor, the shell) lines are
written at once by the caller.
"""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

_MOST_WAITING: Final = 4 * 1024 * 1024
"""Octets that may wait for one output: some 15,000 lines."""
_CLOSE_PATIENCE: Final = 2.0
"""Seconds to wait for the last lines when closing."""
STDERR: Final = 2


class Output:
    """One place that lines go to. `path` says where, anew for each opening; None is stderr."""

    def __init__(self, name: str, path: Callable[[], Path | None]) -> None:
        self.name = name
        self._path = path
        self._open: Path | None = None
        self._file = -1
        self._torn = False
        self.reopen = False
        """Ask for the file to be opened anew before the next line."""
        self.put_octets = 0
        """Handed in; counted by the loop only."""
        self.done_octets = 0
        """Written or lost; counted by the writer only."""
        self.lost = 0
        """Lines lost, ever."""
        self.told = 0
        """Of these, told already."""

    def prepare(self) -> None:
        """Open now, so that a wrong path is an error at the start. Raises OSError."""
        self._select()

    def write(self, data: bytes) -> None:
        """Write whole lines; counts them as lost where that fails, and goes on with the next."""
        try:
            file = self._select()
            if self._torn:
                # The part of a line that did get written must not run into this one.
                data = b"\n" + data
            view = memoryview(data)
            while view:
                view = view[os.write(file, view) :]
                self._torn = bool(view) or self._torn
            self._torn = False
        except OSError:
            self.lost += data.count(b"\n")

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._file not in {-1, STDERR}:
            os.close(self._file)
        self._file = -1

    def _select(self) -> int:
        path = self._path()
        if self._file == -1 or path != self._open or self.reopen:
            file = STDERR if path is None else _append(path)
            self.close()
            self._file, self._open, self.reopen = file, path, False
        return self._file


class Writer:
    """The thread, started with the first line that must not block."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Output, bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def hand(self, output: Output, data: bytes, *, wait: bool) -> None:
        """Have whole lines written; `wait`: by the caller, unless the thread already has some before them."""
        if wait and self._thread is None:
            with self._lock:
                output.write(data)
            return
        size = len(data)
        if output.put_octets - output.done_octets + size > _MOST_WAITING:
            output.lost += data.count(b"\n")
            return
        output.put_octets += size
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
            self._thread.start()
        self._queue.put((output, data))

    def close(self) -> None:
        """Wait a moment for what was handed in."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(_CLOSE_PATIENCE)
            self._thread = None

    def _run(self) -> None:
        more = True
        while more:
            waiting: dict[Output, list[bytes]] = {}
            item = self._queue.get()
            with contextlib.suppress(Empty):
                # All there is at once: while the loop is busy, each write waits for its turn at the interpreter.
                while item is not None:
                    waiting.setdefault(item[0], []).append(item[1])
                    item = self._queue.get_nowait()
                more = False
            for output, blocks in waiting.items():
                data = b"".join(blocks)
                with self._lock:
                    output.write(data)
                output.done_octets += len(data)


def _append(path: Path) -> int:
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
