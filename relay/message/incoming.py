"""A message as it arrives: its header block apart, its body in memory until it is large, then in a file.

Fed by the DATA and BDAT readers with unstuffed, checked octets; read by header fixes, signing and the queue.
Memory per message is bounded by `header_limit` + `spill_at`, whatever the message's size.
"""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from relay.message.octets import Octets, Spilled

_BLOCK = 1 << 18


class HeaderTooLargeError(Exception):
    """The header block passed its limit (552 5.3.4)."""


class NoRoomError(Exception):
    """The disk refused a body that was to be replaced (452 4.3.1)."""


class Incoming:
    """Collects a message. `new_file` gives the file that a large body spills into (`relay_queue` makes it)."""

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
        """Where the body is, once it passed `spill_at`."""
        self.take_long_lines = take_long_lines
        """Lines of more than 998 bytes are taken; otherwise the reader refuses the message."""
        self.long_lines = False
        """There is such a line; set by the reader."""

    @property
    def size(self) -> int:
        """Octets so far."""
        return len(self._pending) + (len(self.header) if self.header is not None else 0) + self._body_size

    @property
    def body_size(self) -> int:
        """Octets of the body so far."""
        return self._body_size

    def write(self, block: bytes) -> None:
        """Add octets. Raises `HeaderTooLargeError`, or OSError when the disk refuses."""
        if self.header is not None:
            self._write_body(block)
            return
        pending = self._pending
        if not pending and (end := block.find(b"\r\n\r\n") + 4) > 3 and block[:2] != b"\r\n":
            # Most messages come in one block: no need to gather.
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
        """The last octet has arrived: a message without a blank line is all header."""
        if self.header is None:
            pending = bytes(self._pending)
            if pending and not pending.endswith(b"\r\n"):
                pending += b"\r\n"
            self.header = pending + b"\r\n"
            self._pending = bytearray()

    def discard(self) -> None:
        """The message was refused or broken off: let go of its octets, and of its file by `discard_file`."""
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
        """The body in blocks, from memory or the file; may be called again."""
        if self.file is None:
            yield from self._body
            return
        self.file.flush()
        self.file.seek(0)
        while block := self.file.read(_BLOCK):
            yield block

    def body(self) -> bytes:
        """The whole body; only while it is in memory (`file` is None)."""
        assert self.file is None, "a spilled body is read in blocks"
        if len(self._body) != 1:
            self._body = [b"".join(self._body)]
        return self._body[0]

    def octets(self) -> Octets:
        """The body for random access, in bounded memory."""
        return self.body() if self.file is None else Spilled(self.file, self._body_size)

    def replace_body(self, blocks: Iterator[bytes]) -> None:
        """Put another body in the place of this one, of which `blocks` may be made.

        Raises `NoRoomError` when the disk refuses; then the old body is still there.
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
