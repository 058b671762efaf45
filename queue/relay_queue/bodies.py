"""Large bodies as files: in `bodies/tmp/` while they arrive, in `bodies/xx/` once they are kept.

A kept file is durable (bytes, size and name) before its row is committed, so a row never names a file that a power
failure can remove. The reverse, a file without a row, is a leftover that `sweep` removes. Must not know of rows or
messages.
"""

import contextlib
import io
import os
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from relay_queue.durable import Disk
from relay_queue.folder import private_folder
from relay_queue.ids import is_id, new_id
from relay_queue.model import Body
from relay_queue.protocol import BodyDamagedError

BLOCK = 1 << 18


class SpoolFile(io.FileIO):
    """A body that is still arriving: append-only, readable, with a running CRC-32 of what was written."""

    def __init__(self, path: Path, descriptor: int) -> None:
        super().__init__(descriptor, "r+b")
        self.path = path
        self.name = str(path)
        self.crc = 0
        self.size = 0

    def write(self, block: Any) -> int:
        """Append all of `block` (any buffer), whatever the read position. Returns its size in bytes. Raises OSError."""
        rest = memoryview(block).cast("B")
        size = len(rest)
        while rest:
            written = super().write(rest) or 0
            self.crc = zlib.crc32(rest[:written], self.crc)
            self.size += written
            rest = rest[written:]
        return size


class CheckedFile(io.FileIO):
    """A kept body. Reading it from start to end verifies its CRC-32 before the last block is returned."""

    def __init__(self, descriptor: int, size: int, crc: int | None) -> None:
        super().__init__(descriptor, "rb")
        self._size = size
        self._expected = crc
        self._crc = 0
        self._seen = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as from any file. Raises `BodyDamagedError` instead of returning the last block of a damaged file."""
        position = self.tell()
        block = super().read(-1 if size is None else size) or b""
        self._check(position, block)
        return block

    def readinto(self, buffer: Any, /) -> int:
        """As `read`, into a buffer."""
        view = memoryview(buffer).cast("B")
        block = self.read(len(view))
        view[: len(block)] = block
        return len(block)

    def _check(self, position: int, block: bytes) -> None:
        if position == 0:
            self._seen = self._crc = 0
        if self._expected is None or position != self._seen:
            return
        self._crc = zlib.crc32(block, self._crc)
        self._seen += len(block)
        if self._seen == self._size and self._crc != self._expected:
            raise BodyDamagedError("the body file is not what was stored")


class Bodies:
    """The body folder of one data folder."""

    def __init__(self, data_dir: Path, disk: Disk | None = None) -> None:
        self._disk = disk if disk is not None else Disk()
        self.folder = data_dir / "bodies"
        self._tmp = self.folder / "tmp"
        private_folder(self.folder)
        private_folder(self._tmp)

    def new(self) -> SpoolFile:
        """Create a temporary file. This call and later writes raise OSError."""
        path = self._tmp / new_id()
        descriptor = self._disk.create(path)
        return SpoolFile(path, descriptor)

    def keep(self, file: SpoolFile) -> None:
        """Make a temporary file durable under its permanent name and close it. Raises OSError if a step fails."""
        with file:
            self._disk.sync(file.fileno())
        target = self._path(file.path.name)
        if not target.parent.is_dir():
            with contextlib.suppress(FileExistsError):  # another worker created it first
                self._disk.make_folder(target.parent)
            self._disk.sync_folder(self.folder)
        self._disk.rename(file.path, target)
        self._disk.sync_folder(target.parent)

    def discard(self, file: BinaryIO) -> None:
        """Close and remove a temporary file."""
        file.close()
        self._disk.remove(Path(file.name))

    def remove(self, name: str) -> None:
        """Remove a kept file whose row was deleted. Raises OSError, or `BodyDamagedError` for an invalid name."""
        self._disk.remove(self._path(name))

    def open(self, body: Body) -> CheckedFile:
        """Open a kept file. Raises `BodyDamagedError` if it is missing or has the wrong size."""
        assert body.file is not None, "this body is in memory wholly"
        try:
            descriptor = os.open(self._path(body.file), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BodyDamagedError(f"the body file {body.file} cannot be opened: {error.strerror}") from error
        file = CheckedFile(descriptor, body.file_size, body.file_crc)
        size = os.fstat(descriptor).st_size
        if size != body.file_size:
            file.close()
            raise BodyDamagedError(f"the body file {body.file} has {size} octets, not {body.file_size}")
        return file

    def blocks(self, body: Body) -> Iterator[bytes]:
        """The whole body in blocks. Raises `BodyDamagedError`."""
        yield body.head
        if body.file is not None:
            with self.open(body) as file:
                while block := file.read(BLOCK):
                    yield block

    def sweep(self, known: Container[str]) -> int:
        """Remove all temporary files, and kept files that are not `known`; returns how many.

        No message may be put meanwhile, as its file would be removed before its row is committed.
        """
        gone = 0
        for path in self.folder.glob("*/*"):
            if path.parent == self._tmp or path.name not in known:
                self._disk.remove(path)
                gone += 1
        return gone

    def _path(self, name: str) -> Path:
        # Names come from our own rows, but the name in a damaged row must not lead to a path outside the folder.
        if not is_id(name):
            raise BodyDamagedError(f"{name!r} is no name of a body file")
        return self.folder / name[-2:] / name
