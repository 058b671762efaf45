"""Non-blocking streams for the standard output and standard error of a server.

Everything that a library or the interpreter prints (a traceback, a warning) goes through these streams, so that a pipe
that nobody reads cannot block a process in `write(2)`. Text that cannot be written at once is dropped.
"""

import io
import os
import sys
from typing import Literal

from relay.events.descriptor import Descriptor, open_stream


class Stream(io.TextIOBase):
    """A text stream for standard output or standard error."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self._output: Descriptor | None = None

    def writable(self) -> Literal[True]:
        """Return True: the stream is for output."""
        return True

    def fileno(self) -> int:
        """Return the stream's descriptor number."""
        return self._number

    def write(self, text: str) -> int:
        """Write what can be written at once; returns the length of the whole text in any case."""
        view = memoryview(text.encode(self.encoding, self.errors))
        try:
            if self._output is None:
                self._output = open_stream(self._number)
            while view:
                view = view[self._output.write(view) :]
        except OSError:
            # Nobody reads the stream, or it has failed, and there is no other place to report that.
            return len(text)
        return len(text)


def guard_streams() -> None:
    """Replace standard output and standard error, for the rest of this process and for its forked children.

    A stream that was closed by the parent process is first opened on /dev/null: otherwise the next file to be opened
    would get its number, and everything that is printed would go into that file.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout, sys.stderr = Stream(1), Stream(2)
