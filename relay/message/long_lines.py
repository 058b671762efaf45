"""Repairs lines over 998 bytes in messages of authenticated and trusted clients, before the messages are signed.

Some applications send a whole HTML page in one line, which most servers refuse or break at some position. A part of the
message that is not encoded becomes quoted-printable, which decodes to exactly what was sent. If a signature covers the
content, or its structure is not understood, the lines are broken as Postfix does it. Base64 and quoted-printable are
wrapped again. Only content with a long line is changed; every other byte of the body is kept.

`plan` walks through the MIME structure once, without recursion, up to 100 levels and 1,000 parts; anything beyond is
opaque (SECURITY: the `email` package recurses and needs the whole message in memory). `repaired` then writes the new
body. Both work on `Octets`, so the memory they need does not depend on the size of the message.
"""

from collections.abc import Callable, Iterator

import msgspec

from relay.message.entity import Entity, Kind, describe
from relay.message.fold import fold
from relay.message.headers import Header
from relay.message.octets import Octets, copied, gathered
from relay.message.transfer import broken, long_lines, quoted, rewrapped_base64, rewrapped_quoted

_LEVELS = 100
_PARTS = 1000
_CANDIDATES = 100_000
"""Maximum number of lines that only look like a boundary. Beyond it the rest is opaque, which bounds the time."""
_PART_HEADER = 1 << 18
"""Maximum size of a part's header in bytes, as `limits.header_size`."""
_PADDING = 1000
"""Bytes of white space that may follow a boundary (RFC 2046 §5.1.1 has no limit)."""
_QUOTED_FIELD = b"Content-Transfer-Encoding: quoted-printable\r\n"
_MIME_FIELD = b"MIME-Version: 1.0\r\n"

_REPAIRS: dict[Kind, Callable[[Octets, int, int], Iterator[bytes]]] = {
    Kind.PLAIN: quoted,
    Kind.QUOTED: rewrapped_quoted,
    Kind.BASE64: rewrapped_base64,
}
"""The repair of each kind; all other kinds use `broken`."""


class Edit(msgspec.Struct, frozen=True):
    """One change of the body: the bytes between `start` and `stop` are replaced."""

    start: int
    stop: int
    text: bytes | None
    """The new bytes (a part's header), or None if `repair` produces them."""
    repair: Callable[[Octets, int, int], Iterator[bytes]] = broken


class Plan(msgspec.Struct, frozen=True):
    """The changes to make."""

    edits: list[Edit]
    """In the order of the body, not overlapping."""
    quote: bool
    """Whether the message's only part becomes quoted-printable, which its header must declare."""


def plan(header: Header, body: Octets) -> Plan:
    """Find the content with long lines, and choose its repair."""
    walk = _Walk(body)
    walk.run(header)
    return Plan(walk.edits, walk.quote)


def repaired(body: Octets, edits: list[Edit]) -> Iterator[bytes]:
    """Yield the new body in blocks."""
    return gathered(_pieces(body, edits))


def repair_header(header: Header, *, quote: bool) -> None:
    """Fold the long fields of the message's header. `quote` means that the body is now quoted-printable."""
    if quote:
        declare_quoted(header, message=True)
    header.fields = [fold(field) for field in header.fields]


def declare_quoted(header: Header, *, message: bool) -> None:
    """Declare quoted-printable content in the header; that of a whole `message` also gets MIME-Version."""
    if message and b"mime-version" not in header.names:
        header.append(b"mime-version", _MIME_FIELD)
    if b"content-transfer-encoding" in header.names:
        header.replace(b"content-transfer-encoding", _QUOTED_FIELD)
    else:
        header.append(b"content-transfer-encoding", _QUOTED_FIELD)


def _pieces(body: Octets, edits: list[Edit]) -> Iterator[bytes]:
    done = 0
    for edit in edits:
        yield from copied(body, done, edit.start)
        if edit.text is not None:
            yield edit.text
        else:
            yield from edit.repair(body, edit.start, edit.stop)
        done = edit.stop
    yield from copied(body, done, len(body))


class _Level(msgspec.Struct, frozen=True):
    """An open container."""

    boundary: bytes
    """Empty for a message within a part."""
    digest: bool
    signed: bool
    """Whether this container or an enclosing one is signed."""


class _Head(msgspec.Struct, frozen=True):
    """The header of a part, or of a message within a part."""

    start: int
    stop: int
    """Position after its blank line."""
    header: Header
    message: bool


class _Walk:
    """One pass over the structure of a body, which collects the edits."""

    def __init__(self, body: Octets) -> None:
        self.edits: list[Edit] = []
        self.quote = False
        self._body = body
        self._size = len(body)
        self._levels: list[_Level] = []
        self._boundaries: dict[bytes, int] = {}
        """Opening and closing delimiter lines of the open containers, with the depth of each."""
        self._longest = 0
        """Length of the longest delimiter line in bytes."""
        self._parts = 0
        self._candidates = 0

    def run(self, header: Header) -> None:
        """Walk through the body; `header` is that of the message."""
        at = self._enter(None, describe(header), 0)
        while at < self._size:
            line = self._delimiter(at, self._size)
            if line is None:
                self._content(None, Entity(Kind.OPAQUE), at, self._size)
                return
            _, at, depth, closing = line
            del self._levels[depth + (0 if closing else 1) :]
            self._index()
            self._parts += 1
            if self._parts > _PARTS:
                self._content(None, Entity(Kind.OPAQUE), at, self._size)
                return
            # The epilogue follows a closing delimiter (RFC 2046 §5.1.1), up to the next enclosing delimiter.
            at = self._content(None, Entity(Kind.OPAQUE), at, self._stop(at)) if closing else self._part(at)

    def _part(self, at: int) -> int:
        """Process the part that begins at `at`; returns the position of the next delimiter, or the end."""
        digest = self._levels[-1].digest
        head = self._head(at, message=False)
        if head is None:
            return self._headless(at)
        return self._enter(head, describe(head.header, in_digest=digest), head.stop)

    def _enter(self, head: _Head | None, entity: Entity, at: int) -> int:
        """Process the content that begins at `at`; returns the position of the next delimiter, or the end."""
        while entity.kind is Kind.MESSAGE and len(self._levels) < _LEVELS:
            self._open(b"", entity)
            self._fold(head)
            inner = self._head(at, message=True)
            if inner is None:
                return self._headless(at)
            head, entity, at = inner, describe(inner.header), inner.stop
        if entity.kind is Kind.MULTIPART and len(self._levels) < _LEVELS:
            self._open(entity.boundary, entity)
        return self._content(head, entity, at, self._stop(at))

    def _headless(self, at: int) -> int:
        """Process a part whose header has no end or is not a header."""
        stop = self._stop(at)
        if stop - at <= _PART_HEADER:
            block = self._body[at:stop]
            if Header.scan(block + b"\r\n").problem is None:
                folded = fold(block)
                if folded != block:
                    self.edits.append(Edit(at, stop, folded))
                return stop
        return self._content(None, Entity(Kind.OPAQUE), at, stop)

    def _content(self, head: _Head | None, entity: Entity, at: int, stop: int) -> int:
        """Plan the repair of the content between a header and the next delimiter; returns `stop`."""
        if next(long_lines(self._body, at, stop), None) is None:
            self._fold(head)
            return stop
        repair = _REPAIRS.get(entity.kind, broken)
        if repair is quoted and (self._signed(entity) or self._candidates > _CANDIDATES):
            repair = broken
        if repair is not quoted:
            self._fold(head)
        elif head is None:
            self.quote = True
        else:
            declare_quoted(head.header, message=head.message)
            self.edits.append(Edit(head.start, head.stop, fold(head.header.to_bytes())))
        self.edits.append(Edit(at, stop, None, repair))
        return stop

    def _fold(self, head: _Head | None) -> None:
        if head is not None and next(long_lines(self._body, head.start, head.stop), None) is not None:
            self.edits.append(Edit(head.start, head.stop, fold(self._body[head.start : head.stop])))

    def _signed(self, entity: Entity) -> bool:
        """Whether a signature covers the entity or an enclosing container."""
        return entity.signed or (bool(self._levels) and self._levels[-1].signed)

    def _open(self, boundary: bytes, entity: Entity) -> None:
        self._levels.append(_Level(boundary, entity.digest, self._signed(entity)))
        self._index()

    def _index(self) -> None:
        self._boundaries = {}
        for depth, level in enumerate(self._levels):
            if level.boundary:
                # If two containers have the same boundary, the innermost wins.
                self._boundaries[b"--" + level.boundary] = depth
                self._boundaries[b"--%b--" % level.boundary] = ~depth
        self._longest = max(map(len, self._boundaries), default=0)

    def _head(self, at: int, *, message: bool) -> _Head | None:
        """Return the header that begins at `at`, or None if no blank line ends it before the next delimiter."""
        body = self._body
        if body[at : at + 2] == b"\r\n":
            stop = at + 2
        else:
            found = body.find(b"\r\n\r\n", at, min(at + _PART_HEADER, self._size))
            if found < 0 or self._delimiter(at, found + 2) is not None:
                return None
            stop = found + 4
        return _Head(at, stop, Header.scan(body[at:stop]), message)

    def _stop(self, at: int) -> int:
        """Return the end of the content that begins at `at`. The CRLF before a delimiter belongs to the delimiter."""
        line = self._delimiter(at, self._size)
        if line is None:
            return self._size
        return max(at, line[0] - 2)

    def _delimiter(self, at: int, limit: int) -> tuple[int, int, int, bool] | None:
        """Find the next delimiter line: its start, the start of the following line, its depth, and whether it closes.

        `at` is the start of a line, or of the CRLF before one.
        """
        if not self._boundaries:
            return None
        body = self._body
        start = at if body[at : at + 2] == b"--" else body.find(b"\r\n--", at, limit) + 2
        while start >= 2 or start == at:
            end = body.find(b"\r\n", start, limit)
            if end < 0:
                end = limit
            if end - start <= self._longest + _PADDING:
                depth = self._boundaries.get(body[start:end].rstrip(b" \t"))
                if depth is not None:
                    return start, min(end + 2, self._size), max(depth, ~depth), depth < 0
            self._candidates += 1
            if self._candidates > _CANDIDATES:
                return None
            start = body.find(b"\r\n--", end, limit) + 2
        return None
