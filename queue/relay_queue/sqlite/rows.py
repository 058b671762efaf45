"""Records to rows and back. The order of columns is that of `queries/changes.sql` and `queries/server.sql`.

Decoding checks what STRICT tables cannot (an unknown state); a row that does not decode raises ValueError.
"""

import sqlite3
import zlib
from types import NoneType
from typing import Any, Final

from relay_queue.model import Body, Ended, Mark, Message, Put, Recipient, Suspension
from relay_queue.states import State

Row = tuple[Any, ...]

# Any value but plain ints, floats and texts is first asked whether it adapts itself to sqlite3, and that it doesn't is
# found out by an exception: for a None, that costs five times the binding. An adapter answers at once.
_nones: dict[None, None] = {}
sqlite3.register_adapter(NoneType, _nones.get)
sqlite3.register_adapter(bool, int)
sqlite3.register_adapter(bytes, bytes)
sqlite3.register_adapter(State, int)


def put_rows(put: Put, file_crc: int | None) -> list[Row]:
    """The changes that store a message: one for each recipient, the message itself with the first."""
    message, body = put.entry.message, put.body
    first = (
        message.received_at,
        message.sender,
        message.size,
        message.user,
        message.origin,
        message.envid,
        message.ret,
        message.eightbit,
        message.smtputf8,
        message.header_id,
        body.head,
        zlib.crc32(body.head),
        body.file,
        body.file_size,
        file_crc,
    )
    recipients = put.entry.recipients
    rows = [(0, *_recipient_columns(recipients[0]), *first)]
    if len(recipients) > 1:
        rows += [(1, *_recipient_columns(recipient), *_NO_MESSAGE) for recipient in recipients[1:]]
    return rows


def _recipient_columns(recipient: Recipient) -> Row:
    return (
        recipient.message_id,
        recipient.n,
        recipient.state,
        recipient.owner,
        recipient.attempts,
        recipient.due_at,
        recipient.lane,
        recipient.reply,
        recipient.failure,
        recipient.delay_notified,
        recipient.changed_at,
        None,
        recipient.address,
        recipient.domain,
        recipient.notify,
        recipient.orcpt,
    )


def mark_row(mark: Mark, *, checked: bool = True) -> Row:
    """The change of a mark. `checked`: it fails unless the recipient is plainly in its owner's hands."""
    return (
        2 if mark.state > State.QUARANTINED else 3,
        mark.message_id,
        mark.n,
        mark.state,
        mark.owner if checked else None,
        mark.attempts,
        mark.due_at,
        mark.lane,
        mark.reply,
        mark.failure,
        mark.delay_notified,
        mark.at,
        mark.remote,
        *_NO_ADDRESS,
    )


# What a change does not use is 0: the cheapest value to bind.
_NO_MESSAGE: Final = (0,) * 15
_NO_ADDRESS: Final = (0,) * 19
NO_CHANGE: Final = (4,) + (0,) * 31
"""Fills a statement up to its length."""
RECIPIENT_COLUMNS: Final = 17


def recipient_of(row: Row) -> Recipient:
    """The recipient in the first columns of a row. Raises ValueError."""
    if type(row[2]) is not str or type(row[9]) is not float:
        raise ValueError("its columns are of other types")
    return Recipient(
        message_id=row[0],
        n=row[1],
        address=row[2],
        domain=row[3],
        notify=row[4],
        orcpt=row[5],
        state=State(row[6]),
        owner=row[7],
        attempts=row[8],
        due_at=row[9],
        lane=row[10],
        remote=row[11],
        reason=row[12],
        reply=row[13],
        failure=row[14],
        delay_notified=bool(row[15]),
        changed_at=row[16],
    )


def message_of(row: Row) -> Message:
    """The message in the columns after the recipient's. Raises ValueError."""
    columns = row[RECIPIENT_COLUMNS:]
    if columns[0] is None:
        raise ValueError("its message is missing")
    return Message(
        id=columns[0],
        received_at=columns[1],
        sender=columns[2],
        size=columns[3],
        user=columns[4],
        origin=columns[5],
        envid=columns[6],
        ret=columns[7],
        eightbit=bool(columns[8]),
        smtputf8=bool(columns[9]),
        header_id=columns[10],
    )


def body_of(row: Row) -> Body:
    """The body in a row of `head`. Raises ValueError when its checksum is wrong."""
    head, head_crc, file, file_size, file_crc = row
    if zlib.crc32(head) != head_crc:
        raise ValueError("its checksum is wrong")
    return Body(head=head, file=file, file_size=file_size, file_crc=file_crc)


def ended_of(row: Row) -> Ended:
    """A row of the history."""
    return Ended(
        message_id=row[0],
        n=row[1],
        address=row[2],
        domain=row[3],
        sender=row[4],
        user=row[5],
        size=row[6],
        received_at=row[7],
        ended_at=row[8],
        state=State(row[9]),
        attempts=row[10],
        reply=row[11],
        failure=row[12],
        lane=row[13],
        remote=row[14],
        header_id=row[15],
        reason=row[16],
    )


def suspension_of(row: Row) -> Suspension:
    """A row of `suspension`."""
    return Suspension(id=row[0], kind=row[1], value=row[2], reason=row[3], created_at=row[4], until=row[5])
