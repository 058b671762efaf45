"""Converts records to rows and back. The columns and their order are generated from the model (`columns`).

Decoding checks what STRICT tables cannot (an unknown state, a list that is not JSON); a row that cannot be decoded
raises ValueError.
"""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from operator import attrgetter
from types import NoneType
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import fields

from relay_queue.model import Body, Ended, Mark, Message, Put, Recipient, Suspension, SuspensionKind
from relay_queue.sqlite.columns import (
    BODY,
    CHANGE,
    MESSAGE,
    NEW_ONLY,
    SHARED,
    SHARED_OF_MARK,
    json_columns,
)
from relay_queue.states import State

Row = tuple[Any, ...]
_Record = TypeVar("_Record", bound=msgspec.Struct)


def _json(value: Any) -> str | None:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) if value else None


# For any value except plain integers, floats and texts, sqlite3 first tries whether the value can adapt itself, and an
# exception tells it that it cannot: for None, that costs five times the binding. A registered adapter avoids this.
_nones: dict[None, None] = {}
sqlite3.register_adapter(NoneType, _nones.get)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(State, int)
sqlite3.register_adapter(SuspensionKind, str.__str__)
sqlite3.register_adapter(tuple, _json)
sqlite3.register_adapter(dict, _json)

# attrgetter with several names builds the tuple in C.
_new: Final = attrgetter(*SHARED, *NEW_ONLY)
_message: Final = attrgetter(*MESSAGE)
_shared: Final = attrgetter(*SHARED_OF_MARK)
_OWNER: Final = 1 + SHARED_OF_MARK.index("owner")
"""Position of the owner in a mark's row."""

# Columns that a change does not use are 0, which is the cheapest value to bind.
_NO_NEW: Final = (0,) * len(NEW_ONLY)
_NO_MESSAGE: Final = (0,) * (len(MESSAGE) + len(BODY))
NO_CHANGE: Final = (4,) + (0,) * (len(CHANGE) - 1)
"""A row without effect, which pads a statement to its fixed length."""


def put_rows(put: Put, file_crc: int | None) -> list[Row]:
    """The changes that store a message: one row for each recipient; the first also holds the message and its body."""
    body = put.body
    of_body = (body.head, zlib.crc32(body.head), body.file, body.file_size, file_crc)
    recipients = put.entry.recipients
    rows = [(0, *_new(recipients[0]), *_message(put.entry.message), *of_body)]
    if len(recipients) > 1:
        rows += [(1, *_new(recipient), *_NO_MESSAGE) for recipient in recipients[1:]]
    return rows


def mark_row(mark: Mark, *, checked: bool = True) -> Row:
    """The change that applies a mark. `checked`: the statement fails unless the mark is plain (`apply.unplain`)."""
    row = (
        2 if mark.state > State.QUARANTINED else 3,
        *_shared(mark),
        *_NO_NEW,
        *_NO_MESSAGE,
    )
    return row if checked else (*row[:_OWNER], None, *row[_OWNER + 1 :])


class Decoder:
    """Builds records of one kind from their columns, which are in the order of the record's fields."""

    def __init__(self, kind: type[_Record]) -> None:
        self._kind = kind
        self.names = tuple(field.name for field in fields(kind))
        self._json = json_columns(kind)
        self._required = frozenset(field.name for field in fields(kind) if field.required)

    def decode(self, columns: Sequence[Any]) -> Any:
        """The record. NULL means the field's default, if it has one. Raises ValueError."""
        given = {
            name: value
            for name, value in zip(self.names, columns, strict=True)
            if value is not None or name in self._required
        }
        for name in self._json & given.keys():
            given[name] = json.loads(given[name])
        return msgspec.convert(given, self._kind, strict=False)


_RECIPIENT: Final = Decoder(Recipient)
_MESSAGE: Final = Decoder(Message)
_ENDED: Final = Decoder(Ended)
_SUSPENSION: Final = Decoder(Suspension)
RECIPIENT_COLUMNS: Final = len(_RECIPIENT.names)
MESSAGE_COLUMNS: Final = len(_MESSAGE.names)
STATE: Final = _RECIPIENT.names.index("state")
"""Position of the state in a row that begins with a recipient."""
ADDRESS: Final = _RECIPIENT.names.index("address")
DOMAIN: Final = _RECIPIENT.names.index("domain")


def recipient_of(row: Row) -> Recipient:
    """The recipient in the first columns of a row. Raises ValueError."""
    found: Recipient = _RECIPIENT.decode(row[:RECIPIENT_COLUMNS])
    return found


def message_of(row: Row) -> Message:
    """The message in the columns after the recipient's. Raises ValueError."""
    columns = row[RECIPIENT_COLUMNS : RECIPIENT_COLUMNS + MESSAGE_COLUMNS]
    if columns[0] is None:
        raise ValueError("its message is missing")
    found: Message = _MESSAGE.decode(columns)
    return found


def body_of(row: Row) -> Body:
    """The body in a row of `head`. Raises ValueError when its checksum is wrong."""
    head, head_crc, file, file_size, file_crc = row
    if zlib.crc32(head) != head_crc:
        raise ValueError("its checksum is wrong")
    return Body(head=head, file=file, file_size=file_size, file_crc=file_crc)


def ended_of(row: Row) -> Ended:
    """A row of the history. Raises ValueError."""
    found: Ended = _ENDED.decode(row)
    return found


def suspension_of(row: Row) -> Suspension:
    """A row of `suspension`. Raises ValueError."""
    found: Suspension = _SUSPENSION.decode(row)
    return found
