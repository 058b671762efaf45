"""A message while it arrives: the header block is kept apart, the body in memory, or in a file when it gets large.

The DATA and BDAT readers write unstuffed, checked bytes; header fixes, signing and the queue read them.
Memory per message is bounded by `header_limit` + `spill_at`, whatever the message's size.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from relay.message.octets import Octets, Spilled

_BLOCK = 1 << 18


class HeaderTooLargeError(Exception):
    """The header block exceeds its limit (552 5.3.4)."""


class NoRoomError(Exception):
    """The disk had no room for a replacement of the body (452 4.3.1)."""


class Incoming:
    """Collects a message. `new_file` opens the file for a large body (`relay_queue` provides it)."""

    __slots__ = (
        "_body",
        "_body_size",
        "_discard_file",
        "_header_limit",
        "_new_file",
        "_pending",
        "_spill_at",
        "file",
        "header",
        "long_lines",
        "take_long_lines",
    )

    def __init__(
        self,
        new_file: Callable[[], BinaryIO],
        *,
        spill_at: int = 1 << 18,
        header_limit: int = 1 << 18,
        discard_file: Callable[[BinaryIO], None] | None = None,
        take_long_lines: bool = False,
    ) -> None:
        self._new_file = new_file
        self._discard_file = discard_file
        self._spill_at = spill_at
        self._header_limit = header_limit
        self._pending = bytearray()
        self._body: list[bytes] = []
        self._body_size = 0
        self.header: bytes | None = None
        """The header block with its final blank line (CRLF CRLF at the end, or just CRLF when there are no fields);
        None until it is complete."""
        self.file: BinaryIO | None = None
        """The file with the body, once the body exceeds `spill_at` bytes."""
        self.take_long_lines = take_long_lines
        """Whether lines of more than 998 bytes are accepted; otherwise the reader refuses the message."""
        self.long_lines = False
        """Whether there is such a line; set by the reader."""

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return len(self._pending) + (len(self.header) if self.header is not None else 0) + self._body_size

    @property
    def body_size(self) -> int:
        """Bytes of the body received so far."""
        return self._body_size

    def write(self, block: bytes) -> None:
        """Add bytes. Raises `HeaderTooLargeError`, or OSError on a disk error."""
        if self.header is not None:
            self._write_body(block)
            return
        pending = self._pending
        if not pending and (end := block.find(b"\r\n\r\n") + 4) > 3 and block[:2] != b"\r\n":
            # Most messages arrive in one block, which need not be collected.
            if end > self._header_limit:
                raise HeaderTooLargeError
            self.header = block[:end]
            if end < len(block):
                self._write_body(block[end:])
            return
        start = max(0, len(pending) - 3)
        pending += block
        if pending.startswith(b"\r\n"):
            end = 2
        else:
            found = pending.find(b"\r\n\r\n", start)
            if found < 0:
                if len(pending) > self._header_limit:
                    raise HeaderTooLargeError
                return
            end = found + 4
        if end > self._header_limit:
            raise HeaderTooLargeError
        self.header = bytes(pending[:end])
        rest = bytes(pending[end:])
        self._pending = bytearray()
        if rest:
            self._write_body(rest)

    def close(self) -> None:
        """End the message. A message without a blank line consists only of a header."""
        if self.header is None:
            pending = bytes(self._pending)
            if pending and not pending.endswith(b"\r\n"):
                pending += b"\r\n"
            self.header = pending + b"\r\n"
            self._pending = bytearray()

    def discard(self) -> None:
        """Release the bytes of a refused or aborted message, and its file through `discard_file`."""
        self._pending = bytearray()
        self._body = []
        file, self.file = self.file, None
        self._release(file)

    def _release(self, file: BinaryIO | None) -> None:
        if file is None:
            return
        if self._discard_file is not None:
            self._discard_file(file)
        else:
            file.close()

    def body_blocks(self) -> Iterator[bytes]:
        """Yield the body in blocks, from memory or the file; may be called repeatedly."""
        if self.file is None:
            yield from self._body
            return
        self.file.flush()
        self.file.seek(0)
        while block := self.file.read(_BLOCK):
            yield block

    def body(self) -> bytes:
        """Return the whole body. Only while it is in memory (`file` is None)."""
        assert self.file is None, "a spilled body is read in blocks"
        if len(self._body) != 1:
            self._body = [b"".join(self._body)]
        return self._body[0]

    def octets(self) -> Octets:
        """Return the body for random access in bounded memory."""
        return self.body() if self.file is None else Spilled(self.file, self._body_size)

    def replace_body(self, blocks: Iterator[bytes]) -> None:
        """Replace the body by `blocks`, which may be generated from the old body.

        Raises `NoRoomError` on a disk error; then the old body is kept.
        """
        fresh = Incoming(self._new_file, spill_at=self._spill_at, discard_file=self._discard_file)
        try:
            for block in blocks:
                fresh._write_body(block)
        except BaseException as error:
            fresh.discard()
            if isinstance(error, OSError):
                raise NoRoomError(str(error)) from error
            raise
        old = self.file
        self._body, self._body_size, self.file = fresh._body, fresh._body_size, fresh.file
        self._release(old)

    def _write_body(self, block: bytes) -> None:
        self._body_size += len(block)
        if self.file is not None:
            self.file.write(block)
            return
        self._body.append(block)
        if self._body_size > self._spill_at:
            self.file = self._new_file()
            self.file.write(b"".join(self._body))
            self._body = []
