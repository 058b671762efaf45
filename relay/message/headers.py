"""A header block as bytes: finds, removes and adds fields. Nothing is decoded or re-folded.

Fields that are not changed here are sent exactly as received (signatures of others depend on it). The block is read in
one pass, in linear time whatever its content, and no input may raise an exception. The meaning of fields belongs to
`relay.message.fix`, addresses to `relay.message.mailboxes`.
"""

import re
from typing import Self

_NAME_OCTETS = bytes(octet for octet in range(33, 127) if octet != ord(":"))
_CONTINUES = (b" ", b"\t")
# The pattern starts only at line starts and does not backtrack, so that every block takes linear time.
_FIELD = re.compile(rb"^(([!-9;-~]++):[^\n]*+\n(?:[ \t][^\n]*+\n)*+)", re.MULTILINE)


class Header:
    """The fields of one header block, in order."""

    __slots__ = ("fields", "names", "overflow", "problem")

    def __init__(self) -> None:
        self.names: list[bytes] = []
        """Lower-case names, one for each of `fields`."""
        self.fields: list[bytes] = []
        """The fields as bytes, with folds and final CRLF."""
        self.problem: str | None = None
        """The fault of the first line that is not a field, as the end of a sentence; None if there is no fault."""
        self.overflow: bool = False
        """Whether there are more fields than the limit; the rest was not read."""

    @classmethod
    def scan(cls, block: bytes, limit: int = 1000) -> Self:
        """Read a header block, with or without its final blank line, up to `limit` fields.

        A block with a `problem` must be refused: some programs read the text after the bad line as header, others as
        body (the trick of Exim bug 3036).
        """
        header = cls()
        if not header._take_well_formed(block, limit):
            header._take_by_line(block, limit)
        return header

    def _take_well_formed(self, block: bytes, limit: int) -> bool:
        """Read a block without faults, as nearly all are. Returns False, having read nothing, if it may have faults."""
        found = _FIELD.findall(block)
        whole = block.endswith(b"\r\n\r\n") and sum([len(field) for field, _ in found]) == len(block) - 2
        breaks = block.count(b"\r\n")
        clean = block.count(b"\n") == breaks and block.count(b"\r") == breaks and b"\0" not in block
        if not (whole and clean and len(found) <= limit):
            return False
        self.fields = [field for field, _ in found]
        self.names = [name.lower() for _, name in found]
        return True

    def _take_by_line(self, block: bytes, limit: int) -> None:
        """Read a block line by line and find its faults."""
        lines = block.split(b"\r\n")
        breaks = len(lines) - 1
        if b"\0" in block:
            self.problem = "it has a NUL octet"
        elif block.count(b"\r") != breaks or block.count(b"\n") != breaks:
            self.problem = "it has a CR or LF that is not part of a line end"
        names, starts = self.names, []
        position = 0
        for line in lines:
            if not line:
                break
            if line[:1] not in _CONTINUES:
                if len(names) == limit:
                    self.overflow = True
                    break
                starts.append(position)
                colon = line.find(b":")
                if colon > 0:
                    names.append(line[:colon].lower())
                else:
                    names.append(b"")
                    self.problem = self.problem or f"line {_line_number(block, position)} is not `Name: value`"
            elif not starts:
                self.problem = self.problem or "its first line is indented"
            position += len(line) + 2
        self.fields = _cut(block, starts, position)
        if b"".join(names).translate(None, _NAME_OCTETS):
            self.problem = self.problem or _name_problem(names)

    def count(self, name: bytes) -> int:
        """Return the number of fields with this (lower-case) name."""
        return self.names.count(name)

    def value(self, name: bytes) -> bytes | None:
        """Return the bytes after the colon of the first field of this name, with folds but without the final CRLF."""
        if name not in self.names:
            return None
        field = self.fields[self.names.index(name)]
        return field[len(name) + 1 : -2]

    def remove(self, name: bytes) -> int:
        """Remove all fields of this name; returns how many there were."""
        removed = self.names.count(name)
        if removed:
            kept = [index for index, other in enumerate(self.names) if other != name]
            self.names = [self.names[index] for index in kept]
            self.fields = [self.fields[index] for index in kept]
        return removed

    def replace(self, name: bytes, field: bytes) -> None:
        """Replace the first field of this name by a whole field (bytes with CRLF)."""
        self.fields[self.names.index(name)] = field

    def append(self, name: bytes, field: bytes) -> None:
        """Add a whole field (bytes with CRLF) at the end; `name` in lower case."""
        self.names.append(name)
        self.fields.append(field)

    def prepend(self, name: bytes, field: bytes) -> None:
        """Add a whole field (bytes with CRLF) at the top; `name` in lower case."""
        self.names.insert(0, name)
        self.fields.insert(0, field)

    def to_bytes(self) -> bytes:
        """Return the block with its final blank line."""
        return b"".join(self.fields) + b"\r\n"


def _line_number(block: bytes, position: int) -> int:
    return block.count(b"\r\n", 0, position) + 1


def _cut(block: bytes, starts: list[int], end: int) -> list[bytes]:
    ends = starts[1:]
    ends.append(end)
    fields = [block[start:stop] for start, stop in zip(starts, ends, strict=False)]
    if fields and not fields[-1].endswith(b"\r\n"):
        fields[-1] += b"\r\n"
    return fields


def _name_problem(names: list[bytes]) -> str:
    for number, name in enumerate(names, 1):
        bare = name.rstrip(b" \t")
        if bare != name and not bare.translate(None, _NAME_OCTETS):
            return f"field {number} has a space before its colon"
        if name.translate(None, _NAME_OCTETS):
            return f"field {number} has a name with characters that are not allowed"
    return "a field name is malformed"
