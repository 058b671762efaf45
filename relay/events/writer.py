"""Writes lines to files and pipes without blocking the caller, even if a pipe is full or a disk is slow.

Where an event loop runs, a thread writes. Without a loop (the supervisor, which forks and so has no threads; the
shell), the caller writes what can be written without blocking. The rest is kept, up to a bound; lines beyond the bound
are dropped and counted, and so are the lines that are still unwritten at the end.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from relay.events.descriptor import Descriptor, open_file, open_stream, writable

_MOST_WAITING: Final = 4 * 1024 * 1024
"""Bytes that may wait for one output: some 15,000 lines."""
_CLOSE_PATIENCE: Final = 2.0
"""Seconds to wait for the last lines when closing."""
_LOOK_EVERY: Final = 1.0
"""Seconds between checks whether the path still names the open file, and between attempts to reopen it."""
_RETRY_EVERY: Final = 0.02
"""Seconds that the thread waits for a blocked output before it checks for lines of the other outputs."""
STDERR: Final = 2
NOBODY_READS: Final = "nobody reads it"
_LINE_END: Final = ord("\n")


class Output:
    """One destination of lines. `path` is called before each write; None stands for standard error.

    A file that was moved away or removed is reopened automatically within a second. If that fails, lines still go to
    the open file, and `failure` gives the reason.
    """

    def __init__(self, name: str, path: Callable[[], Path | None], clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._path = path
        self._clock = clock
        self._wanted: Path | None = None
        self._open: Descriptor | None = None
        self._looked_at = float("-inf")
        self._torn = False
        self._waiting = b""
        self.reopen = False
        """Set to True to have the file reopened before the next line."""
        self.put_octets = 0
        """Bytes passed in; changed only by the caller's thread."""
        self.done_octets = 0
        """Bytes written or lost; changed only by the writer."""
        self.lost = 0
        """Total number of lines lost."""
        self.told = 0
        """Lost lines that were already reported."""
        self.reason = ""
        """Reason of the latest loss."""
        self.failure: tuple[Path, str] | None = None
        """The file that currently cannot be opened, and the reason."""

    def prepare(self) -> None:
        """Open the output now, so that a wrong path is an error at the start. Raises OSError."""
        self._select()

    @property
    def blocked(self) -> Descriptor | None:
        """The descriptor that must become writable before more can be written; None if nothing waits."""
        return self._open if self._waiting else None

    def write(self, data: bytes = b"") -> None:
        """Write the waiting lines, then `data` (whole lines). Lines that fail are counted as lost and skipped."""
        if self._torn and data and not self._waiting:
            # The previous line was written only in part and must not run into this one.
            data = b"\n" + data
            self.done_octets -= 1
        self._waiting += data
        try:
            self._write_waiting(self._select())
        except BlockingIOError:
            return
        except OSError as error:
            self.give_up(error.strerror or str(error))

    def _write_waiting(self, output: Descriptor) -> None:
        view = memoryview(self._waiting)
        try:
            while view:
                written = output.write(view)
                self.done_octets += written
                self._torn = view[written - 1] != _LINE_END
                view = view[written:]
        finally:
            if len(view) < len(self._waiting):
                self._waiting = bytes(view)

    def give_up(self, reason: str) -> None:
        """Drop the waiting lines and count them as lost."""
        if self._waiting:
            self.lose(self._waiting, reason)
            self.done_octets += len(self._waiting)
            self._waiting = b""

    def lose(self, data: bytes, reason: str) -> None:
        """Count lines as lost."""
        self.lost += data.count(b"\n")
        self.reason = reason

    def close(self) -> None:
        """Close the file, if it is one."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _select(self) -> Descriptor:
        """Return the open output. Opens it if it is closed, if the path names another file, or if `reopen` is set."""
        path, current = self._path(), self._open
        if current is not None and path == self._wanted and not self.reopen and self._in_place(current, path):
            return current
        self._looked_at = self._clock()
        try:
            opened = open_stream(STDERR) if path is None else open_file(path)
        except OSError as error:
            if path is not None:
                self.failure = path, error.strerror or str(error)
            self._wanted, self.reopen = path, False
            if current is None:
                raise
            return current
        self.close()
        self._open, self._wanted, self.reopen, self.failure = opened, path, False, None
        return opened

    def _in_place(self, output: Descriptor, path: Path | None) -> bool:
        """Whether the path still names the output. Checked at most every `_LOOK_EVERY` seconds."""
        now = self._clock()
        if path is None or now - self._looked_at < _LOOK_EVERY:
            return True
        self._looked_at = now
        return self.failure is None and output.is_at(path)


class Writer:
    """Owns the writing thread, which is started with the first line that must not block."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Output, bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def hand(self, output: Output, data: bytes, *, wait: bool) -> None:
        """Write whole lines, or the waiting ones if `data` is empty. `wait`: the caller writes if no thread runs."""
        if output.put_octets - output.done_octets + len(data) > _MOST_WAITING:
            output.lose(data, NOBODY_READS)
            data = b""
        output.put_octets += len(data)
        if wait and self._thread is None:
            with self._lock:
                output.write(data)
        elif data or output.reopen:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
                self._thread.start()
            self._queue.put((output, data))

    def close(self, outputs: tuple[Output, ...]) -> bool:
        """Write the waiting lines for up to two seconds; the rest is lost. Returns False if a disk does not respond."""
        if self._thread is None:
            _drain(outputs)
            return True
        self._queue.put(None)
        self._thread.join(2 * _CLOSE_PATIENCE)
        ended = not self._thread.is_alive()
        self._thread = None
        return ended

    def _run(self) -> None:
        known: set[Output] = set()
        more = True
        while more:
            # While one output is blocked, the lines of the other outputs must not wait for it.
            lines: dict[Output, list[bytes]] = {output: [] for output in known if output.blocked is not None}
            if lines:
                _wait(lines, _RETRY_EVERY)
            with contextlib.suppress(Empty):
                item = self._queue.get(block=not lines)
                # Write all lines in one call: while the loop is busy, each write waits for the interpreter lock.
                while item is not None:
                    lines.setdefault(item[0], []).append(item[1])
                    item = self._queue.get_nowait()
                more = False
            known.update(lines)
            for output, blocks in lines.items():
                with self._lock:
                    output.write(b"".join(blocks))
        _drain(known)


def _drain(outputs: Iterable[Output]) -> None:
    """Write the waiting lines for up to two seconds; the rest is lost."""
    until = time.monotonic() + _CLOSE_PATIENCE
    while blocked := [output for output in outputs if output.blocked is not None]:
        left = until - time.monotonic()
        for output in blocked:
            if left > 0:
                output.write()
            else:
                output.give_up(NOBODY_READS)
        _wait(blocked, min(max(left, 0.0), _RETRY_EVERY))


def _wait(outputs: Iterable[Output], seconds: float) -> None:
    """Wait until one of the outputs is writable."""
    writable([output.blocked for output in outputs if output.blocked is not None], seconds)
