"""Formats events as lines: JSON for programs, logfmt for people.

One event is always one line, whatever a remote side sends: all characters that Python considers unprintable are
written as escapes. These include control characters, line and paragraph separators, and characters that reverse or
hide text (such as U+202E). Printable text of any script stays readable.
"""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import msgspec

from relay.events.catalog import Event

_LONGEST: Final = 4000
"""Maximum length of a value in characters (four times as many for a trace). A cut value ends with an ellipsis."""
_REMEMBERED: Final = 4096
"""Size of the cache of quoted values (at most a megabyte). The cache is cleared when it is full."""
_REMEMBERED_LENGTH: Final = 200
_FRACTIONS: Final = tuple(f".{n:03}Z" for n in range(1000))
_encode: Final = msgspec.json.Encoder().encode
_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\]')
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class Stamp:
    """Formats times as RFC 3339 in UTC with milliseconds. The part up to the seconds is cached for that second."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        """Return the time (seconds since the epoch) as `2026-11-05T12:34:56.789Z`."""
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._text + _FRACTIONS[int((now - second) * 1000)]


def json_fields(event: Event) -> bytes:
    """Return the event's fields as JSON, without the opening brace: `"id":"…","n":0}`."""
    try:
        body = _encode(event)
    except UnicodeEncodeError:  # a lone surrogate: the text was decoded from bytes that are not UTF-8
        body = _encode(_without_surrogates(msgspec.to_builtins(event)))
    if body.isascii() and b"\x7f" not in body:
        # msgspec has escaped control characters, quotes and backslashes, so only printable ASCII is left.
        return body[1:]
    return _escape_unprintable(body.decode()).encode()[1:]


def logfmt_fields(event: Event) -> str:
    """Return the event's fields as ` id=… n=0 from=a@example.org reply="250 2.0.0 ok"`."""
    plan = _plans.get(type(event)) or _plan(type(event))
    known = _quoted
    line = ""
    for prefix, value in zip(plan[1], plan[0](event), strict=True):
        if value is None:
            continue
        kind = type(value)
        if kind is str:
            # Hosts, users and replies repeat often, and a lookup costs a fifth of quoting them again.
            if value:
                line = f"{line}{prefix}{known.get(value) or _remember(value)}"
        elif kind is int:
            line = f"{line}{prefix}{value}"
        elif kind is float:
            line = f"{line}{prefix}{value:.3f}"
        else:
            line += _compound(prefix, value)
    return line


def _remember(text: str) -> str:
    quoted = quote(text)
    if len(quoted) <= _REMEMBERED_LENGTH:
        if len(_quoted) >= _REMEMBERED:
            _quoted.clear()
        _quoted[text] = quoted
    return quoted


def quote(text: str) -> str:
    """Return a logfmt value: bare if it is unambiguous, otherwise in quotes with escapes as in JSON."""
    if len(text) > _LONGEST:
        limit = _LONGEST * 4 if text.startswith("Traceback") else _LONGEST
        text = text[:limit] + ("…" if len(text) > limit else "")
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"' if " " in text or "=" in text or not text else text
    return f'"{_UNSAFE.sub(_escaped, text)}"'


def line_of(stored: dict[str, Any]) -> str:
    """Return a stored event (as read back) as one line of logfmt, safe on a terminal, without a line end."""
    stamp = "-"
    when = stored.get("time")
    if isinstance(when, int | float):
        try:
            stamp = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        except (OverflowError, ValueError, OSError):
            stamp = quote(str(when))
    rest = {name: value for name, value in stored.items() if name not in {"time", "details"}}
    details = stored.get("details")
    if isinstance(details, dict):
        rest |= details
    return f"time={stamp}" + "".join(f" {_key(name)}={_stored_value(value)}" for name, value in rest.items())


def _stored_value(value: Any) -> str:
    if isinstance(value, list):
        return quote(",".join(str(item) for item in value))
    return quote(str(value))


def _key(name: str) -> str:
    """Return a field's name. The relay writes only valid names, but a file may have been changed."""
    return name if name.isidentifier() and name.isascii() else "field"


_quoted: dict[str, str] = {}
_Plan = tuple[Callable[[Event], tuple[Any, ...]], tuple[str, ...]]
_plans: dict[type[Event], _Plan] = {}


def _plan(record: type[Event]) -> _Plan:
    """Return a getter of all the record's fields in one call, and the prefix of each field; cached by type."""
    fields = msgspec.structs.fields(record)
    names = [field.name for field in fields]
    getter = attrgetter(*names)
    values: Callable[[Event], tuple[Any, ...]] = getter if len(names) > 1 else lambda event: (getter(event),)
    plan = values, tuple(f" {field.encode_name}=" for field in fields)
    _plans[record] = plan
    return plan


def _compound(prefix: str, value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f" {_key(name)}={quote(str(item))}" for name, item in value.items())
    if isinstance(value, tuple):
        return prefix + quote(",".join(value)) if value else ""
    return prefix + quote(str(value))


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    if character.isprintable():
        return character
    return _unicode_escape(character)


def _unicode_escape(character: str) -> str:
    """Return a JSON escape with four hex digits, or two of them (a surrogate pair) above U+FFFF."""
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def _escape_unprintable(text: str) -> str:
    """Escape every unprintable character of a JSON text: outside of ASCII they occur only inside strings."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _unicode_escape(c) for c in text)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: _without_surrogates(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value
