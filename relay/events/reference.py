"""The manual's page on events, made from the catalog: `python -m relay.events.reference > docs/reference/events.md`."""

import inspect
import sys
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec

from relay.events.catalog import KINDS, Event, Kind

_INTRODUCTION = """# Events

Everything that happens is an event. Each is one line of the log (`[log]` in the settings: logfmt or JSON, by severity)
and one line of the event store (`events/YYYY-MM-DD-WORKER.jsonl` in the data folder, JSON, all severities, kept for
`history.keep`), which `relay events` reads.

Every event has these fields; those below are its own. A field without a value is left out.

| field | meaning |
|---|---|
| `time` | When: RFC 3339 in UTC in the log, seconds since the epoch in the store. |
| `level` | Severity: `debug`, `info`, `warning`, `error`. |
| `event` | Its name. |
| `worker` | Which process tells: a worker's number, `supervisor`, `cli`. |

Text from outside is escaped: one event is one line, whatever a client or server says. Passwords and the content of mail
are never recorded.

This page is made from the code: `python -m relay.events.reference > docs/reference/events.md`.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *(_section(kind) for kind in KINDS.values())])


def _section(kind: Kind) -> str:
    text = kind.text or inspect.cleandoc(kind.record.__doc__ or "")
    rows = [f"| `{name}` | {meaning} |" for name, meaning in _fields(kind.record)]
    head = f"## {kind.name}\n\n{text} Severity: {kind.level.name.lower()}.\n"
    return "\n".join([head, "| field | meaning |", "|---|---|", *rows, ""])


def _fields(record: type[Event]) -> list[tuple[str, str]]:
    """(name as written, meaning) of a record's fields."""
    hints = get_type_hints(record, include_extras=True)
    found = []
    for field in msgspec.structs.fields(record):
        hint = hints[field.name]
        assert get_origin(hint) is Annotated, f"{record.__name__}.{field.name} says what it is"
        meaning = next(extra.description for extra in get_args(hint)[1:] if isinstance(extra, msgspec.Meta))
        found.append((field.encode_name, str(meaning)))
    return found


if __name__ == "__main__":
    sys.stdout.write(page())
