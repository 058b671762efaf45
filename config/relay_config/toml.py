"""Formats single values as TOML, for the example file and the reference; not for whole documents."""

import json
from typing import Any

from relay_config.words import Duration, Rate, Size, format_duration, format_rate, format_size


def toml_value(value: Any) -> str:
    """A value of the schema as written in a settings file, including durations, sizes and rates."""
    word = _word(value)
    if word is not None:
        return json.dumps(word)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    # A JSON string is a valid TOML basic string.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def _word(value: Any) -> str | None:
    if isinstance(value, Duration):
        return format_duration(value)
    if isinstance(value, Size):
        return format_size(value)
    return format_rate(value) if isinstance(value, Rate) else None
