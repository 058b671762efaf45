"""Reads the event store back: merged over workers by time, filtered, followed.

Lines that are incomplete (after a crash or a full disk) or not an event are skipped. Events are plain dicts with the
fields that `docs/reference/events.md` lists; `time` is in seconds since the epoch. Their text is unescaped text from
remote sides: print it through `relay.events.format.line_of`, or escape it in another way.
"""

import contextlib
import heapq
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from relay.events.store import EventFile, day_of, files
from relay.events.trail import Trail

_POLL: Final = 0.3
"""Seconds between checks of the files while following."""
_BLOCK: Final = 1 << 16
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode

StoredEvent = dict[str, Any]


@dataclass(slots=True, frozen=True, kw_only=True)
class Query:
    """Selects events. All fields must match; an empty field matches everything."""

    message_id: str | None = None
    """Queue id of the message or of a notification about it."""
    header_id: str | None = None
    """Message-ID of its header, with or without angle brackets (see `relay.events.trail`)."""
    address: str | None = None
    """Sender or recipient, in any case."""
    since: float | None = None
    """Epoch seconds, inclusive."""
    until: float | None = None
    """Epoch seconds, exclusive."""
    kinds: tuple[str, ...] = ()
    """Names of events."""

    def matches(self, event: StoredEvent) -> bool:
        """Whether the event matches, ignoring `header_id`, which takes several events (see `relay.events.trail`)."""
        when = event["time"]
        if (self.since is not None and when < self.since) or (self.until is not None and when >= self.until):
            return False
        if self.kinds and event.get("event") not in self.kinds:
            return False
        if self.message_id is not None and self.message_id not in (event.get("id"), event.get("dsn")):
            return False
        return self.address is None or self.address.lower() in _addresses(event)

    def may_hold(self, line: bytes) -> bool:
        """Whether a line may match, so that it must be decoded. Cheap, and true for every line that matches."""
        return self.message_id is None or self.message_id.encode() in line


def read(data_dir: Path, query: Query = Query()) -> Iterator[StoredEvent]:
    """Yield the matching events, oldest first."""
    chosen = [file for file in files(data_dir) if _may_cover(file, query)]
    chosen.sort(key=lambda file: (file.slot, file.day, file.number))
    trail = _trail(data_dir, query)
    slots = [_slot_events(list(group), query, trail) for _, group in groupby(chosen, key=lambda file: file.slot)]
    return heapq.merge(*slots, key=lambda event: event["time"])


def last(data_dir: Path, count: int, query: Query = Query()) -> list[StoredEvent]:
    """Return the newest `count` matching events, oldest first."""
    return list(deque(read(data_dir, query), maxlen=count))


def follow(
    data_dir: Path,
    query: Query = Query(),
    *,
    sleep: Callable[[float], None] = time.sleep,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[StoredEvent]:
    """Yield matching events as they are written, from now on, until `stop`.

    Workers write with a delay of a tenth of a second, so the events of one check are in order, and the events of two
    checks hardly overlap.
    """
    tails = {file.path: _Tail(file.path, file.path.stat().st_size) for file in files(data_dir)}
    trail = _trail(data_dir, query)
    while not stop():
        sleep(_POLL)
        for file in files(data_dir):
            tails.setdefault(file.path, _Tail(file.path, 0))
        fresh = [event for tail in tails.values() for event in _events(tail.lines(), query, trail)]
        yield from sorted(fresh, key=lambda event: event["time"])
        tails = {path: tail for path, tail in tails.items() if not tail.gone}


@dataclass(slots=True)
class _Tail:
    """Reads a growing file: yields the whole lines that were not read yet."""

    path: Path
    offset: int
    rest: bytes = b""
    gone: bool = field(default=False)

    def lines(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while block := file.read(_BLOCK):
                    self.offset += len(block)
                    *whole, self.rest = (self.rest + block).split(b"\n")
                    yield from whole
        except FileNotFoundError:
            self.gone = True


def _trail(data_dir: Path, query: Query) -> Trail | None:
    """Collect the queue ids of the Message-ID from the whole store, because `accepted` may be before `since`."""
    if query.header_id is None:
        return None
    trail = Trail(query.header_id)
    for file in files(data_dir):
        with contextlib.suppress(FileNotFoundError), file.path.open("rb") as lines:
            for line in lines:
                event = _parse(line) if trail.names(line) else None
                if event is not None:
                    trail.covers(event)
    return trail


def _slot_events(slot: list[EventFile], query: Query, trail: Trail | None) -> Iterator[StoredEvent]:
    for file in slot:
        try:
            with file.path.open("rb") as lines:
                yield from _events(lines, query, trail)
        except FileNotFoundError:
            continue  # removed in the meantime


def _events(lines: Iterator[bytes] | Any, query: Query, trail: Trail | None) -> Iterator[StoredEvent]:
    for line in lines:
        if query.may_hold(line) and (trail is None or trail.may_hold(line)):
            event = _parse(line)
            # Ask the trail first, because it also learns ids from events that do not match.
            if event is not None and (trail is None or trail.covers(event)) and query.matches(event):
                yield event


def _parse(line: bytes) -> StoredEvent | None:
    try:
        event = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return event if type(event.get("time")) in {float, int} else None


def _may_cover(file: EventFile, query: Query) -> bool:
    """Whether the file can hold events of the time range. Allows a day more, as lines are written a little later."""
    if query.since is not None and file.day < day_of(query.since):
        return False
    return query.until is None or file.day <= day_of(query.until + 60)


def _addresses(event: StoredEvent) -> list[str]:
    """Return the sender and recipients of an event, in lower case."""
    found: list[str] = []
    for name in ("from", "to"):
        value = event.get(name)
        found += [str(item).lower() for item in value] if isinstance(value, list) else [str(value).lower()]
    return found
