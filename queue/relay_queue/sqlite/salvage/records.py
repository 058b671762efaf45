"""Decodes rows from the bytes of a b-tree page. Pure. Data that does not fit the format is left out, never guessed.

Must not know which tree a page belongs to; that is up to `pages`.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

INDEX_INTERIOR: Final = 2
TABLE_INTERIOR: Final = 5
INDEX_LEAF: Final = 10
TABLE_LEAF: Final = 13
PAGE: Final = 4096
"""Page size in bytes; every queue of the relay is created with this size and without reserved bytes."""
FIRST_HEADER: Final = 100
"""Size in bytes of the file header, which precedes the b-tree header on page 1 (F §1.3)."""
_MOST_PAYLOAD: Final = 1 << 30

Row = tuple[Any, ...]
Overflow = Callable[[int, int], bytes | None]
"""(first page, number of bytes) -> contents of a chain of overflow pages; None if it cannot be read."""


class Cell(msgspec.Struct, frozen=True):
    """One entry of a b-tree page."""

    row: Row | None
    """The record's values; None in an interior page of a table, which has only keys, or if it cannot be read."""
    rowid: int | None = None
    child: int | None = None
    """In interior pages: the page with smaller keys."""


class Page(msgspec.Struct, frozen=True):
    """A b-tree page."""

    kind: int
    cells: list[Cell]
    rightmost: int | None
    """In interior pages: the page with the largest keys."""
    broken: int
    """Number of cells that the page's header lists but that cannot be read."""


class _BrokenError(Exception):
    """The bytes do not follow the format."""


def page_of(content: bytes, overflow: Overflow, *, first: bool = False) -> Page | None:
    """Decode a b-tree page (F §1.6); None if it is not one. `first`: page 1, which begins with the file header."""
    start = FIRST_HEADER if first else 0
    if len(content) < PAGE or content[start] not in {INDEX_INTERIOR, TABLE_INTERIOR, INDEX_LEAF, TABLE_LEAF}:
        return None
    kind = content[start]
    interior = kind in {INDEX_INTERIOR, TABLE_INTERIOR}
    count = int.from_bytes(content[start + 3 : start + 5], "big")
    pointers = start + (12 if interior else 8)
    if pointers + 2 * count > PAGE:
        return None
    cells, broken = [], 0
    for number in range(count):
        at = int.from_bytes(content[pointers + 2 * number : pointers + 2 * number + 2], "big")
        try:
            cells.append(_cell(content, at, pointers + 2 * count, kind, overflow))
        except (_BrokenError, IndexError, struct.error):
            broken += 1
    rightmost = int.from_bytes(content[start + 8 : start + 12], "big") if interior else None
    return Page(kind, cells, rightmost, broken)


def _cell(content: bytes, at: int, least: int, kind: int, overflow: Overflow) -> Cell:
    if not least <= at < PAGE:
        raise _BrokenError
    child = rowid = None
    if kind in {INDEX_INTERIOR, TABLE_INTERIOR}:
        child = int.from_bytes(content[at : at + 4], "big")
        at += 4
    if kind == TABLE_INTERIOR:
        rowid, _ = _varint(content, at)
        return Cell(None, rowid, child)
    size, at = _varint(content, at)
    if kind == TABLE_LEAF:
        rowid, at = _varint(content, at)
        rowid -= (rowid >> 63) << 64
    try:
        row = record_of(_payload(content, at, size, kind, overflow))
    except (_BrokenError, IndexError, struct.error):
        if child is None:
            raise
        row = None  # the child page can still be read
    return Cell(row, rowid, child)


def _payload(content: bytes, at: int, size: int, kind: int, overflow: Overflow) -> bytes:
    if not 0 < size <= _MOST_PAYLOAD:
        raise _BrokenError
    local = local_size(size, table=kind == TABLE_LEAF)
    if at + local + (4 if local < size else 0) > PAGE:
        raise _BrokenError
    payload = content[at : at + local]
    if local == size:
        return payload
    rest = overflow(int.from_bytes(content[at + local : at + local + 4], "big"), size - local)
    if rest is None:
        raise _BrokenError
    return payload + rest


def local_size(size: int, *, table: bool) -> int:
    """How many bytes of a payload are stored in the b-tree page itself (F §1.6)."""
    most = PAGE - 35 if table else (PAGE - 12) * 64 // 255 - 23
    if size <= most:
        return size
    least = (PAGE - 12) * 32 // 255 - 23
    kept = least + (size - least) % (PAGE - 4)
    return kept if kept <= most else least


def record_of(payload: bytes) -> Row:
    """The values of a record (F §2.1). Raises `_BrokenError`, IndexError or struct.error if it is damaged."""
    header, at = _varint(payload, 0)
    if not at <= header <= len(payload):
        raise _BrokenError
    kinds = []
    while at < header:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    if at != header:
        raise _BrokenError
    values = []
    for kind in kinds:
        size = _size_of(kind)
        values.append(_value(kind, payload[at : at + size]))
        at += size
    if at != len(payload):
        raise _BrokenError
    return tuple(values)


_INTEGERS: Final = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def _size_of(kind: int) -> int:
    if kind >= 12:
        return (kind - 12) // 2
    if kind in {10, 11}:
        raise _BrokenError
    return _INTEGERS.get(kind, 8 if kind == 7 else 0)


def _value(kind: int, octets: bytes) -> Any:
    if kind in _INTEGERS:
        return int.from_bytes(octets, "big", signed=True)
    if kind == 7:
        return struct.unpack(">d", octets)[0]
    if kind >= 12:
        return _text(octets) if kind % 2 else octets
    return {0: None, 8: 0, 9: 1}[kind]


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise _BrokenError from error


def _varint(octets: bytes, at: int) -> tuple[int, int]:
    """A variable-length integer (F §1.6), unsigned, and the offset of its end."""
    value = 0
    for n in range(8):
        octet = octets[at + n]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + n + 1
    return value << 8 | octets[at + 8], at + 9


def rows_of(page: Page) -> Iterator[tuple[int | None, Row]]:
    """(rowid, values) of each row on a page."""
    for cell in page.cells:
        if cell.row is not None:
            yield cell.rowid, cell.row


def children_of(page: Page) -> Iterator[int]:
    """The numbers of the child pages."""
    for cell in page.cells:
        if cell.child is not None:
            yield cell.child
    if page.rightmost is not None:
        yield page.rightmost
