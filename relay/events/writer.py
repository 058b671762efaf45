"""Writes lines to files and pipes without ever making their caller wait: a full pipe or a slow disk stops nothing.

Where an event loop runs, a thread writes. Without one (the supervisor, which forks and so has no threads; the shell)
the caller writes at once what can be written at once. What cannot be written yet is kept, up to a bound; lines beyond
that are dropped and counted, and so are those that nobody took by the end.
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
"""Octets that may wait for one output: some 15,000 lines."""
_CLOSE_PATIENCE: Final = 2.0
"""Seconds to wait for the last lines when closing."""
_LOOK_EVERY: Final = 1.0
"""Seconds between looks at whether the path still names the open file, and between tries to open it again."""
_RETRY_EVERY: Final = 0.02
"""Seconds that the thread waits for a blocked output before it looks for lines of the others."""
STDERR: Final = 2
NOBODY_READS: Final = "nobody reads it"
_LINE_END: Final = ord("\n")


class Output:
    """One place that lines go to. `path` says where, anew for each write; None is standard error.

    A file that was moved away or removed is opened anew by itself within a second. Where that fails, lines go on into
    the file that is still open, and `failure` says why.
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
        """Ask for the file to be opened anew before the next line."""
        self.put_octets = 0
        """Handed in; counted by the caller's thread only."""
        self.done_octets = 0
        """Written or lost; counted by the writer only."""
        self.lost = 0
        """Lines lost, ever."""
        self.told = 0
        """Of these, reported already."""
        self.reason = ""
        """Why lines were lost last."""
        self.failure: tuple[Path, str] | None = None
        """The file that cannot be opened at the moment, and why."""

    def prepare(self) -> None:
        """Open now, so that a wrong path is an error at the start. Raises OSError."""
        self._select()

    @property
    def blocked(self) -> Descriptor | None:
        """What must take lines before more can be written; None where nothing waits."""
        return self._open if self._waiting else None

    def write(self, data: bytes = b"") -> None:
        """Write whole lines after those that wait. Lines that fail are counted as lost, and the next are tried."""
        if self._torn and data and not self._waiting:
            # The part of a line that did get written must not run into this one.
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
        """Count what waits as lost."""
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
        """The open output, opened where it is not, is no longer what the path names, or is to be opened anew."""
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
        """Whether the output is what the path names, as far as known: there is a look at most once in a while."""
        now = self._clock()
        if path is None or now - self._looked_at < _LOOK_EVERY:
            return True
        self._looked_at = now
        return self.failure is None and output.is_at(path)


class Writer:
    """The thread, started with the first line that must not block."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Output, bytes] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def hand(self, output: Output, data: bytes, *, wait: bool) -> None:
        """Have whole lines written, or without `data` what waits; `wait`: by the caller, unless there is the thread."""
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
        """Wait a moment for what was handed in; what nobody took by then is lost. False: a disk does not answer."""
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
            # With an output that is blocked the others' lines must not wait until it is read.
            lines: dict[Output, list[bytes]] = {output: [] for output in known if output.blocked is not None}
            if lines:
                _wait(lines, _RETRY_EVERY)
            with contextlib.suppress(Empty):
                item = self._queue.get(block=not lines)
                # All there is at once: while the loop is busy, each write waits for its turn at the interpreter.
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
    """Write what waits, for a moment at most; the rest is lost."""
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
    """Until one of the outputs takes something."""
    writable([output.blocked for output in outputs if output.blocked is not None], seconds)
