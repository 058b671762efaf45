"""Random access to a message body, in memory or in a file, with bounded memory.

`Spilled` offers the few operations of `bytes` that the repair of long lines needs. It reads the file in blocks rather
than mapping it: an I/O error in a mapped page would kill the process with SIGBUS, here it is an OSError.
"""

import errno
from collections.abc import Iterator
from typing import BinaryIO, Protocol

BLOCK = 1 << 18
"""Number of bytes that are read and passed on at once."""


class Octets(Protocol):
    """The operations needed of a body; `bytes` has all of them."""

    def __len__(self) -> int:
        """The number of bytes."""
        ...

    def __getitem__(self, part: slice, /) -> bytes:
        """A copy of a part."""
        ...

    def find(self, sub: bytes, start: int, stop: int, /) -> int:
        """Return the first position of `sub` within `[start, stop)`, or -1."""
        ...

    def rfind(self, sub: bytes, start: int, stop: int, /) -> int:
        """Return the last position of `sub` within `[start, stop)`, or -1."""
        ...


class Spilled:
    """The bytes of a file, with one block at a time in memory."""

    __slots__ = ("_begin", "_block", "_file", "_size")

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._block = b""
        self._begin = 0
        """Position of `_block` in the file."""

    def __len__(self) -> int:
        """The number of bytes."""
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        """A copy of a part; for parts of moderate size."""
        start, stop, step = part.indices(self._size)
        assert step == 1, "parts are contiguous"
        return self._part(start, max(start, stop))

    def find(self, sub: bytes, start: int, stop: int, /) -> int:
        """Like `bytes.find`; reads only up to the first match."""
        stop = min(stop, self._size)
        while stop - start >= len(sub):
            if not 0 <= start - self._begin <= len(self._block) - len(sub):
                self._load(start, BLOCK)
            begin, block = self._begin, self._block
            found = block.find(sub, start - begin, stop - begin)
            if found >= 0:
                return begin + found
            if begin + len(block) >= stop:
                break
            start = begin + len(block) - len(sub) + 1
        return -1

    def rfind(self, sub: bytes, start: int, stop: int, /) -> int:
        """Like `bytes.rfind`; for parts of moderate size."""
        found = self._part(start, min(stop, self._size)).rfind(sub)
        return found if found < 0 else start + found

    def _part(self, start: int, stop: int) -> bytes:
        if start < self._begin or stop > self._begin + len(self._block):
            self._load(start, max(BLOCK, stop - start))
        return self._block[start - self._begin : stop - self._begin]

    def _load(self, start: int, size: int) -> None:
        """Load the block that begins at `start`."""
        size = min(size, self._size - start)
        self._file.seek(start)
        block = self._file.read(size)
        # A raw file may return fewer bytes than requested.
        while len(block) < size:
            more = self._file.read(size - len(block))
            if not more:
                raise OSError(errno.EIO, "the file of a message body is shorter than what was written to it")
            block += more
        self._begin, self._block = start, block


def copied(octets: Octets, start: int, stop: int) -> Iterator[bytes]:
    """Yield a part in blocks."""
    while start < stop:
        end = min(start + BLOCK, stop)
        yield octets[start:end]
        start = end


def gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in fewer and larger pieces, because each piece that goes to a file costs a write."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if size:
        yield b"".join(held)
