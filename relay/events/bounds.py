"""Bounds on the length of an event's values, so that a client cannot fill the log and the store with long values.

The same bounds hold for the log (both formats) and for the store, because a record is shortened before it is written.
"""

from typing import Any, Final

import msgspec

from relay.events.catalog import Event

LONGEST: Final = 512
"""Maximum length of a value in characters. An address has at most 256, so addresses are never shortened."""
_LONGER: Final = {"reply": 1000, "error": 1000, "message": 1000, "trace": 16_000}
"""Maximum length in characters of the values that need more: server replies and the relay's own errors."""
_WHOLE: Final = frozenset({"id", "dsn"})
"""Values that are never shortened, because a search by a shortened id finds nothing."""
ELLIPSIS: Final = "…"
"""Ends a shortened value."""


def bounded(event: Event) -> Event:
    """Return the event with its overlong values shortened, or the event itself if there are none."""
    changes = {}
    for name in event.__struct_fields__:
        value = getattr(event, name)
        if name not in _WHOLE:
            short = _bounded_value(value, _LONGER.get(name, LONGEST))
            if short is not value:
                changes[name] = short
    return msgspec.structs.replace(event, **changes) if changes else event


def shortened(text: str, limit: int) -> str:
    """Return the text, cut to at most `limit` characters and `4 * limit` bytes; a cut text ends with an ellipsis.

    Unprintable characters are written as escapes of up to 12 bytes; other characters take at most 4 bytes.
    """
    if len(text) > limit // 3 and not text.isprintable():
        escapes = sum(12 if char > "\uffff" else 6 for char in text[:limit] if not char.isprintable())
        if escapes > limit * 3:
            limit //= 3
    return text if len(text) <= limit else text[: limit - 1] + ELLIPSIS


def _bounded_value(value: Any, limit: int) -> Any:
    """Return the value with its strings shortened, or the value itself if none of them is too long."""
    if isinstance(value, str):
        return shortened(value, limit)
    if isinstance(value, tuple):
        items = tuple(_bounded_value(item, limit) for item in value)
        return value if items == value else items
    if isinstance(value, dict):
        entries = {key: _bounded_value(item, limit) for key, item in value.items()}
        return value if entries == value else entries
    return value
