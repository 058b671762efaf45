"""The manual's page on events, made from the catalog: `python -m relay.events.reference > docs/reference/events.md`."""

import inspect
import sys
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec

from relay.events.catalog import KINDS, Event, Kind

_INTRODUCTION = """# Events

Everything that happens is an event. Each is one line of the log (`[log]` in the settings: logfmt or JSON, by severity)
and one line of the event store (`events/YYYY-MM-DD-WORKER.jsonl` in the data folder, JSON, all severities), which
`relay events` reads. A day with many events continues in `events/YYYY-MM-DD-WORKER.1.jsonl`, `….2.jsonl` and so on.

Every event has these fields; those below are its own. A field without a value is left out.

| field | meaning |
|---|---|
| `time` | When: RFC 3339 in UTC in the log, seconds since the epoch in the store. |
| `level` | Severity: `debug`, `info`, `warning`, `error`. |
| `event` | Its name. |
| `worker` | Which process tells: a worker's number, `supervisor`, `cli`. |

Text from outside is escaped: one event is one line, whatever a client or server says. Passwords and the content of mail
are never recorded.

## Limits

- **Length.** A value of more than 512 characters is cut and ends with `…`. Replies, error texts and library messages
  may have 1,000 characters, traces 16,000. Ids are never cut, and neither are addresses, which have at most 256.
- **Number.** Refused commands, failed logins and failed TLS handshakes are recorded for `limits.client_events` times
  in a minute for each client address (for IPv6: each /64 network), and for ten times as many for all strangers
  together; each worker counts for itself. All others are counted: an `omitted` event says how many there were when the
  minute ends. A stranger is a client that has not logged in and is not in `submission.trusted_networks`.
- **Age.** Events are kept for `history.keep`, in whole days.
- **Size.** While the store is larger than `history.events_size`, its oldest files are removed, whatever they hold. The
  files that are being written stay. Final outcomes are no exception: the store does not keep a `delivered` or `failed`
  event longer than the events around it. What became of each recipient is kept in the queue as well, with the last
  reply, for `history.keep`: `relay queue show ID` and `relay queue list` show it even if its events were removed.

The log has no such bounds on age and size: rotate its file, or bound the journal (`SystemMaxUse=`).

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
