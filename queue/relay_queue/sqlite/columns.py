"""The columns of the tables, generated from the fields of the model, for the queries and for `rows`.

A query names a group of columns in braces: `{message}` is the message's columns as a list, `{message:m.}` the same with
the prefix `m.`. So a new field of a record needs no change in any query.
"""

import re
from typing import Any, Final, get_origin

from msgspec.structs import fields

from relay_queue.model import Ended, Mark, Message, Recipient


def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def json_columns(kind: Any) -> frozenset[str]:
    """Fields that are stored as JSON text, or as NULL when they are empty."""
    return frozenset(field.name for field in fields(kind) if get_origin(field.type) in {tuple, dict})


KEY: Final = ("message_id", "n")
MESSAGE: Final = tuple(name for name in _names(Message) if name != "id")
"""All columns of `message` except its key."""
RECIPIENT: Final = tuple(name for name in _names(Recipient) if name not in KEY)
"""All columns of `recipient` except its key and the pending action."""
BODY: Final = ("head", "head_crc", "file", "file_size", "file_crc")
ENDED: Final = _names(Ended)
SHARED_OF_MARK: Final = tuple(name for name in _names(Mark) if name in RECIPIENT or name in {*KEY, "at"})
"""Columns that both a mark and a new recipient set, by the names of the mark's fields."""
SHARED: Final = tuple("changed_at" if name == "at" else name for name in SHARED_OF_MARK)
"""The same, by the names of the recipient's columns."""
NEW_ONLY: Final = tuple(name for name in RECIPIENT if name not in SHARED)
"""Columns that only a new recipient sets."""
assert len(SHARED_OF_MARK) == len(_names(Mark)), "what a mark says is kept of the recipient as well"
_COPIED_BY_NAME: Final = frozenset({"sender", "size", "received_at"})
"""Columns of `ended` for which the query gives a default in case the message is missing."""
KEPT: Final = tuple(name for name in ENDED if name in MESSAGE and name not in _COPIED_BY_NAME)
"""Columns of `ended` that are copied from the message unchanged."""
CHANGE: Final = (
    "what",
    *SHARED,
    *NEW_ONLY,
    *(f"m_{name}" for name in MESSAGE),
    *(f"b_{name}" for name in BODY),
)
"""The columns of the view `change`, in order."""

_GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "message": MESSAGE,
    "recipient": RECIPIENT,
    "body": BODY,
    "ended": ENDED,
    "kept": KEPT,
    "change": CHANGE,
    "nulls": ("NULL",) * len(CHANGE),
    "values": ("?",) * len(CHANGE),
}


def expanded(query: str) -> str:
    """The query with each group of columns replaced by its list."""
    return re.sub(
        r"\{(\w+)(?::([\w.]+))?\}",
        lambda found: ", ".join((found[2] or "") + name for name in _GROUPS[found[1]]),
        query,
    )
