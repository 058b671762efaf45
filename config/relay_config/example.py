"""`relay.toml.example`, generated from the schema: every setting with its meaning, its range and its default.

`python -m relay_config.example > relay.toml.example` updates the file in the repository; a test compares the two. A
line that starts with `#` and no blank is a setting that can be uncommented as it is.
"""

import sys
import textwrap
from collections.abc import Iterator
from typing import Final

from relay_config.problems import key_text
from relay_config.schema import Settings
from relay_config.shape import Array, Choice, Keyed, Setting, Shape, Table
from relay_config.toml import toml_value

_WIDTH: Final = 100
_HEAD: Final = """\
relay.toml: every setting of the relay, with its default.

A line that starts with "#" and no blank after it is a setting: take the "#" away, there and before the \
[table] above it, and change the value. What is left out keeps its default. Durations are words like "5m" or \
"1h30m", sizes like "50MiB", rates like "100/s". Relative paths start at this file's folder. `relay check` finds \
every mistake at once. Each setting can also come from the environment: RELAY_SUBMISSION__MAX_MESSAGE_SIZE=10MiB."""


def render() -> str:
    """The whole example file."""
    lines = [*_prose(_HEAD), ""]
    lines += _section(Table(Settings), ())
    return "\n".join(lines).rstrip("\n") + "\n"


def _section(table: Table, path: tuple[str, ...]) -> Iterator[str]:
    """Values first, then tables, because in TOML all keys up to the next header belong to a table."""
    nested = {name: setting for name, setting in table.settings.items() if table_of(setting.shape) is not None}
    for setting in table.settings.values():
        if setting.name not in nested:
            yield from _value(setting)
    for setting in nested.values():
        yield from _table(setting, (*path, setting.name))


def _value(setting: Setting) -> Iterator[str]:
    yield from _prose(describe(setting))
    mark = "" if setting.required and setting.name == "hostname" else "#"
    yield f"{mark}{setting.name} = {shown_value(setting)}"
    yield ""


def _table(setting: Setting, path: tuple[str, ...]) -> Iterator[str]:
    table = table_of(setting.shape)
    assert table is not None, "only settings that hold tables come here"
    about = setting.help or (table.cls.__doc__ or "").strip()
    yield from _prose(about)
    path = (*path, str(setting.example)) if isinstance(setting.shape, Keyed) else path
    yield f"#{header(setting, path)}"
    yield ""
    yield from _section(table, path)


def header(setting: Setting, path: tuple[str, ...]) -> str:
    """The line that opens a table: `[tls]`, `[[listener]]`."""
    return f"[[{key_text(path)}]]" if isinstance(setting.shape, Array) else f"[{key_text(path)}]"


def table_of(shape: Shape) -> Table | None:
    """The table that a setting contains (directly, in an array or by key); None for plain values."""
    if isinstance(shape, Table):
        return shape
    return table_of(shape.item) if isinstance(shape, Array | Keyed) else None


def shown_value(setting: Setting) -> str:
    """The default as TOML, or the example if the default is empty."""
    empty = setting.required or setting.default is None or setting.default == ()
    return toml_value(setting.example) if empty and setting.example is not None else toml_value(setting.default)


def describe(setting: Setting) -> str:
    """Help, range and default of a plain setting."""
    parts = [setting.help, range_text(setting)]
    if setting.required:
        parts.append("Required.")
    elif setting.default is None and "default:" not in setting.help.lower():
        parts.append("Default: not set.")
    elif setting.default == ():
        parts.append("Default: none.")
    return " ".join(part for part in parts if part)


def range_text(setting: Setting) -> str:
    """The words or the range that a setting accepts, as a sentence; empty if it accepts any value of its type."""
    if isinstance(setting.shape, Choice):
        return f"One of {', '.join(setting.shape.words)}."
    bounds = setting.bounds
    if bounds.least is not None and bounds.most is not None:
        return f"From {bounds.least:g} to {bounds.most:g}."
    return f"At least {bounds.least:g}." if bounds.least else ""


def _prose(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield from textwrap.wrap(paragraph, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


if __name__ == "__main__":
    sys.stdout.write(render())
