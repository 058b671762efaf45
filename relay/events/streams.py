"""Standard output and standard error of a server, as streams that never make it wait.

Whatever a library or the interpreter prints (a traceback, a warning) goes through these, so that a pipe which nobody
reads cannot stop a process in the middle of `write(2)`. Text that is not taken at once is dropped.
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
        """It is for output."""
        return True

    def fileno(self) -> int:
        """The stream's own number."""
        return self._number

    def write(self, text: str) -> int:
        """Write what is taken at once; returns the length of the text as if all of it was."""
        view = memoryview(text.encode(self.encoding, self.errors))
        try:
            if self._output is None:
                self._output = open_stream(self._number)
            while view:
                view = view[self._output.write(view) :]
        except OSError:
            # Nobody reads, or nobody can: there is no other place to say so.
            return len(text)
        return len(text)


def guard_streams() -> None:
    """Make standard output and standard error such streams, for the rest of this process and those forked from it.

    A stream that was closed by whoever started the process is opened on /dev/null first: the next file to be opened
    would get its number, and with it all that is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    sys.stdout, sys.stderr = Stream(1), Stream(2)
