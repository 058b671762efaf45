"""Live recipients in pages, oldest first, for the shell. A page never splits a message.

Each page is a separate query, so that a slow reader holds no snapshot and the log can be checkpointed between pages.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

from relay_queue.model import Entry, Message, Recipient, Selection
from relay_queue.sqlite.filters import filtered, parameters
from relay_queue.sqlite.rows import ADDRESS, DOMAIN, Row, message_of, recipient_of
from relay_queue.states import State

PAGE = 500
PENDING = -1
"""Position of the pending action in a row of a page."""


def page_after(connection: sqlite3.Connection, selection: Selection, key: tuple[str, int], size: int) -> list[Row]:
    """The page after a key, extended to the end of its last message; empty at the end. Raises sqlite3.Error."""
    given = parameters(selection)
    asked = {**given, "after_id": key[0], "after_n": key[1], "page": size}
    rows = connection.execute(filtered("page", given), asked).fetchall()
    if len(rows) == size:
        rest = {**given, "after_id": rows[-1][0], "after_n": rows[-1][1]}
        rows += connection.execute(filtered("rest_of_message", given), rest).fetchall()
    return rows


def pages(connection: sqlite3.Connection, selection: Selection, size: int = PAGE) -> Iterator[list[Row]]:
    """All pages of a selection. Raises sqlite3.Error."""
    key = ("", -1)
    while rows := page_after(connection, selection, key, size):
        yield rows
        if len(rows) < size:
            return
        key = (rows[-1][0], rows[-1][1])


def entries_of(rows: Sequence[Row]) -> Iterator[Entry]:
    """The messages of a page."""
    for _, group in groupby(rows, key=itemgetter(0)):
        of_message = list(group)
        yield Entry(_message(of_message[0]), [recipient(row) for row in of_message])


def recipient(row: Row) -> Recipient:
    """The recipient of a row. If it cannot be decoded, it is shown as quarantined, as claiming it would make it."""
    try:
        return recipient_of(row)
    except ValueError as error:
        return Recipient(
            message_id=row[0],
            n=row[1],
            address=str(row[ADDRESS]),
            domain=str(row[DOMAIN]),
            state=State.QUARANTINED,
            reply=str(error),
        )


def _message(row: Row) -> Message:
    try:
        return message_of(row)
    except ValueError:
        return Message(id=row[0], received_at=0.0, sender="", size=0, origin="lost")
