"""The tables of a queue, the roots of their b-trees and the layout of their rows, as read from the schema itself.

No column is named here, so that a new column needs no change. Must not decide which rows to keep.
"""

import contextlib
import sqlite3
from collections.abc import Iterator

import msgspec

from relay_queue.protocol import QueueVersionError
from relay_queue.sqlite.connect import is_ours, version_in
from relay_queue.sqlite.salvage.pages import INDEX_KINDS, TABLE_KINDS, Image
from relay_queue.sqlite.salvage.records import Row, rows_of
from relay_queue.sqlite.sql import migrations


class Table(msgspec.Struct, frozen=True):
    """A table as it is stored."""

    name: str
    root: int
    """The first page of its b-tree."""
    columns: tuple[str, ...]
    """Names in storage order: in a table without rowid, the primary key comes first (F §2.4)."""
    reals: frozenset[int]
    """Positions of REAL columns, whose whole numbers are stored as integers (F §2.3)."""
    rowid: bool
    alias: int | None
    """Position of the column that is the rowid (INTEGER PRIMARY KEY), which the record leaves empty."""


class Found(msgspec.Struct, frozen=True):
    """A row of a table."""

    rowid: int | None
    values: dict[str, object]
    """Values by column. Columns added after the row was stored are missing: they have their default."""


def tables_of(reference: sqlite3.Connection, image: Image) -> list[Table]:
    """The tables of the damaged file, with the layout of a new file of the same version. Raises sqlite3.Error.

    The root pages are taken from the file's own schema if it can be read. Otherwise they are assumed to be the same as
    in the new file: with a pointer map SQLite keeps all roots at the front, in order of creation (F §1.8).
    """
    own = {name: root for name, (root, _) in _own_schema(image).items()}
    found = []
    for name, root in reference.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table' ORDER BY rowid"):
        if not name.startswith("sqlite_"):
            found.append(_table(reference, name, own.get(name, root)))
    return found


def version_of(image: Image) -> int:
    """The schema version of a damaged file: that of its header, unless its tables clearly belong to another version.

    Raises `QueueVersionError` for a file of a newer release, whose tables are not known here.
    """
    known = len(migrations())
    stated: int = version_in(image.page(1))
    own = {name: sql for name, (_, sql) in _own_schema(image).items()}
    candidates: list[int] = [stated, *range(known, 0, -1)]
    for version in candidates:
        if 0 < version <= known and own and own.items() <= _tables_at(version).items():
            return version
    if stated > known and own and is_ours(image.page(1)):
        raise QueueVersionError(f"the queue is of schema version {stated}, this program knows up to {known}")
    return stated if 0 < stated <= known else known


def _tables_at(version: int) -> dict[str, str]:
    """Table -> its SQL text in the given schema version."""
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        for script in migrations()[:version]:
            memory.executescript(script)
        return dict(memory.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL"))


def _own_schema(image: Image) -> dict[str, tuple[int, str]]:
    """Table -> (root page, SQL text), as far as the file's schema can be read (F §2.6)."""
    found: dict[str, tuple[int, str]] = {}
    for pages in image.tree(1, TABLE_KINDS):
        for number in pages:
            node = image.node(number)
            for _, row in rows_of(node) if node is not None else ():
                match row:
                    case ("table", str(name), _, int(root), str(sql)) if 1 < root <= image.count:
                        found.setdefault(name, (root, sql))
    return found


def _table(reference: sqlite3.Connection, name: str, root: int) -> Table:
    (without_rowid,) = reference.execute("SELECT wr FROM pragma_table_list WHERE name = ?", (name,)).fetchone()
    columns = reference.execute("SELECT name, type, pk FROM pragma_table_xinfo(?) ORDER BY cid", (name,)).fetchall()
    if without_rowid:
        keys = sorted((column for column in columns if column[2]), key=lambda column: column[2])
        columns = keys + [column for column in columns if not column[2]]
    alias = [n for n, column in enumerate(columns) if column[2] and column[1] == "INTEGER" and not without_rowid]
    return Table(
        name,
        root,
        tuple(column[0] for column in columns),
        frozenset(n for n, column in enumerate(columns) if column[1] == "REAL"),
        not without_rowid,
        alias[0] if alias else None,
    )


def rows(image: Image, table: Table, *, doubtful: bool) -> Iterator[Found | None]:
    """The rows of a table; None for each row that is lost.

    They come from pages that certainly belong to the table or, if `doubtful`, from those that only may belong to it.
    """
    kinds = TABLE_KINDS if table.rowid else INDEX_KINDS
    for number in image.tree(table.root, kinds)[doubtful]:
        node = image.node(number)
        if node is None or node.kind not in kinds:
            yield None
            continue
        for rowid, values in rows_of(node):
            yield _found(table, rowid, values)
        yield from [None] * node.broken


def _found(table: Table, rowid: int | None, values: Row) -> Found | None:
    if not 0 < len(values) <= len(table.columns):
        return None
    named = {
        name: float(value) if n in table.reals and type(value) is int else value
        for n, (name, value) in enumerate(zip(table.columns, values, strict=False))
    }
    if table.alias is not None:
        named[table.columns[table.alias]] = rowid
    return Found(rowid, named)
