"""Bounds on the length of an event's values, so that one client's long words cannot fill the log and the store.

The same bounds hold for the log (both formats) and for the store, because a record is shortened before it is written.
"""

from typing import Any, Final

import msgspec

from relay.events.catalog import Event

LONGEST: Final = 512
"""Characters of a value. An address has at most 256, so that no address is ever shortened."""
_LONGER: Final = {"reply": 1000, "error": 1000, "message": 1000, "trace": 16_000}
"""Characters of the values that need more: what a server answered, and what went wrong in the relay itself."""
_WHOLE: Final = frozenset({"id", "dsn"})
"""Values that are never shortened: half an id finds nothing."""
ELLIPSIS: Final = "…"
"""Ends a shortened value."""


def bounded(event: Event) -> Event:
    """The event with every value that is too long shortened; the event itself where none is."""
    changes = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name not in _WHOLE:
            short = _bounded_value(value, _LONGER.get(name, LONGEST))
            if short is not value:
                changes[name] = short
    return msgspec.structs.replace(event, **changes) if changes else event


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning with an ellipsis, in at most `limit` characters and four times as many bytes.

    Characters that are not printable are written as escapes of up to 12 bytes, others take 4 at most.
    """
    if len(text) > limit // 3 and not text.isprintable():
        escapes = sum(12 if char > "\uffff" else 6 for char in text[:limit] if not char.isprintable())
        if escapes > limit * 3:
            limit //= 3
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def _bounded_value(value: Any, limit: int) -> Any:
    """The value itself where nothing in it is too long."""
    if isinstance(value, str):
        return shortened(value, limit)
    if isinstance(value, tuple):
        items = tuple(_bounded_value(item, limit) for item in value)
        return value if items == value else items
    if isinstance(value, dict):
        entries = {key: _bounded_value(item, limit) for key, item in value.items()}
        return value if entries == value else entries
    return value
