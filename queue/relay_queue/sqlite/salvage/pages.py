"""The pages of a damaged queue, and the b-tree to which each belongs.

Two independent records assign a page to a tree: the tree's interior pages, from the root downwards, and the pointer map
(F §1.8), which names each page's parent. If one of them assigns a page to a tree, the page is read as part of it, even
if the other record is damaged. A freed page still holds rows of mail that was delivered long ago, so pages on the free
list are never read.
"""

import os
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, Self

from relay_queue.sqlite.salvage.records import (
    FIRST_HEADER,
    INDEX_INTERIOR,
    INDEX_LEAF,
    PAGE,
    TABLE_INTERIOR,
    TABLE_LEAF,
    Page,
    children_of,
    page_of,
)

_MAPPED: Final = PAGE // 5
"""Number of pages that one page of the pointer map describes."""
_LOCK_PAGE: Final = (1 << 30) // PAGE + 1
"""The lock-byte page, which is never used (F §1.4)."""
_ROOT, _FREE, _NODE = 1, 2, 5
_OVERFLOWS = frozenset({3, 4})
_DEEPEST: Final = 40
_FRAME: Final = 24 + PAGE
TABLE_KINDS: Final = frozenset({TABLE_INTERIOR, TABLE_LEAF})
INDEX_KINDS: Final = frozenset({INDEX_INTERIOR, INDEX_LEAF})


class Image:
    """A database file with its write-ahead log, read as SQLite would after a crash. It is never written to.

    Opening it raises OSError.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._log = -1
        self._frames: dict[int, int] = {}
        """Page number -> offset of its newest committed version in the log."""
        self.count = -(-os.fstat(self._file).st_size // PAGE)
        self.unreadable: set[int] = set()
        """Pages that the disk cannot read."""
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._read_log()
        self.free = self._free_pages()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if self._log >= 0:
            os.close(self._log)

    def page(self, number: int) -> bytes:
        """The bytes of a page; zeros if the file is shorter or the disk fails."""
        try:
            if (at := self._frames.get(number)) is not None:
                content = os.pread(self._log, PAGE, at)
            else:
                content = os.pread(self._file, PAGE, (number - 1) * PAGE)
        except OSError:
            self.unreadable.add(number)
            content = b""
        return content.ljust(PAGE, b"\0")

    def node(self, number: int) -> Page | None:
        """A page decoded as a b-tree page; None if it is not one."""
        if not 0 < number <= self.count:
            return None
        return page_of(self.page(number), self._overflow, first=number == 1)

    def tree(self, root: int, kinds: frozenset[int]) -> tuple[list[int], list[int]]:
        """The pages of a b-tree: those that both records name, and those that only one of them names."""
        reached = self._reached(root, kinds)
        mapped = self._mapped().get(root, set())
        candidates = (reached | mapped) - self.free
        sure = reached & mapped | {root}
        return sorted(candidates & sure), sorted(candidates - sure)

    def _reached(self, root: int, kinds: frozenset[int]) -> set[int]:
        reached: set[int] = set()
        pending = [root]
        while pending:
            number = pending.pop()
            if number in reached or not 0 < number <= self.count:
                continue
            content = self.page(number)
            kind = content[FIRST_HEADER if number == 1 else 0]
            if kind not in kinds:
                continue
            reached.add(number)
            if kind not in {INDEX_LEAF, TABLE_LEAF}:
                node = page_of(content, lambda _number, _wanted: None, first=number == 1)
                pending += [] if node is None else children_of(node)
        return reached

    @cache  # noqa: B019 -- an image is read once and thrown away
    def _mapped(self) -> dict[int, set[int]]:
        """Root -> the pages that the pointer map assigns to it."""
        found: dict[int, set[int]] = {}
        for number in range(3, self.count + 1):
            if (root := self._root_of(number)) is not None:
                found.setdefault(root, set()).add(number)
        return found

    def _root_of(self, number: int) -> int | None:
        for _ in range(_DEEPEST):
            kind, parent = self._pointer(number)
            if kind == _ROOT:
                return number
            if kind != _NODE or not 0 < parent <= self.count:
                return None
            number = parent
        return None

    def _pointer(self, number: int) -> tuple[int, int]:
        """(kind, parent) of a page in the pointer map; (0, 0) for pages of the map itself."""
        if number == 1:
            return _ROOT, 0  # the schema's root, which the map does not describe
        map_page = (number - 2) // (_MAPPED + 1) * (_MAPPED + 1) + 2
        if map_page == _LOCK_PAGE:
            map_page += 1
        if number <= map_page:
            return 0, 0
        at = 5 * (number - map_page - 1)
        content = self._map_page(map_page)
        if at + 5 > len(content):
            return 0, 0
        return content[at], int.from_bytes(content[at + 1 : at + 5], "big")

    @cache  # noqa: B019 -- as above
    def _map_page(self, number: int) -> bytes:
        return self.page(number)

    def _overflow(self, number: int, wanted: int) -> bytes | None:
        """The contents of a chain of overflow pages, `wanted` bytes; None if the chain is damaged (F §1.6)."""
        parts = []
        seen: set[int] = set()
        while wanted > 0:
            if not 1 < number <= self.count or number in seen:
                return None
            seen.add(number)
            content = self.page(number)
            parts.append(content[4 : 4 + wanted])
            wanted -= PAGE - 4
            number = int.from_bytes(content[:4], "big")
        # The last page of a chain has no successor; otherwise a pointer or a length is damaged.
        return b"".join(parts) if number == 0 else None

    def _free_pages(self) -> set[int]:
        """The pages on the free list, from its first trunk page (F §1.5)."""
        free: set[int] = set()
        trunk = int.from_bytes(self.page(1)[32:36], "big")
        trunks: set[int] = set()
        while 1 < trunk <= self.count and trunk not in trunks and self._pointer(trunk)[0] not in {_ROOT, _NODE}:
            trunks.add(trunk)
            content = self.page(trunk)
            length = int.from_bytes(content[4:8], "big")
            if length > PAGE // 4 - 2:
                break
            leaves = struct.unpack(f">{length}I", content[8 : 8 + 4 * length])
            # A damaged list may name a page that is in use; the page's own entry in the pointer map shows this.
            free.update(page for page in leaves if self._pointer(page)[0] not in {_ROOT, _NODE, *_OVERFLOWS})
            trunk = int.from_bytes(content[:4], "big")
        return free | trunks

    def _read_log(self) -> None:
        """Find the newest committed version of each page in the log (F §4)."""
        header = os.pread(self._log, 32, 0)
        if len(header) < 32 or header[:3] != b"\x37\x7f\x06" or header[3] not in {0x82, 0x83}:
            return
        order = ">" if header[3] & 1 else "<"
        sums = _sums(header[:24], order, (0, 0))
        if sums != struct.unpack(">II", header[24:32]) or int.from_bytes(header[8:12], "big") != PAGE:
            return
        salt = header[16:24]
        pending: dict[int, int] = {}
        for at, frame in self._raw_frames():
            sums = _sums(frame[24:], order, _sums(frame[:8], order, sums))
            if frame[8:16] != salt or sums != struct.unpack(">II", frame[16:24]):
                return
            number, size = struct.unpack(">II", frame[:8])
            pending[number] = at + 24
            if size:
                self._frames |= pending
                pending.clear()
                self.count = size

    def _raw_frames(self) -> Iterator[tuple[int, bytes]]:
        at = 32
        while len(frame := os.pread(self._log, _FRAME, at)) == _FRAME:
            yield at, frame
            at += _FRAME


def _sums(octets: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """The log's running checksum (F §4.2)."""
    first, second = before
    words = iter(struct.unpack(f"{order}{len(octets) // 4}I", octets))
    for word in words:
        first = (first + word + second) & 0xFFFFFFFF
        second = (second + next(words) + first) & 0xFFFFFFFF
    return first, second
