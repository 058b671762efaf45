"""Durations, sizes and rates as words: "5m", "50MiB", "100/s".

Only ASCII digits are accepted (`int` would accept those of any script). No value is negative, and every value has an
upper bound, so that no sum of settings can overflow a clock or a 64-bit integer. Fractions are refused: "1h30m", not
"1.5h".
"""

import re
from typing import Final, NamedTuple


class Duration(float):
    """Seconds."""

    __slots__ = ()


class Size(int):
    """Bytes."""

    __slots__ = ()


class Rate(NamedTuple):
    """`amount` per `seconds` seconds; an amount of 0 means no limit."""

    amount: int
    seconds: float


class WordError(ValueError):
    """A text is not a duration, size or rate; the message says what to write instead."""


DURATION_REMEDY: Final = 'write a duration like "30s", "5m", "1h30m" or "2d"'
SIZE_REMEDY: Final = 'write a size like "10kB", "50MiB" or "1GiB"'
RATE_REMEDY: Final = 'write a rate like "100/s", "1000/h" or "5/10s"; "0" stands for no limit'

LONGEST: Final = Duration(3650 * 86_400)
"""Ten years: more than any sensible setting, and far too small to overflow when it is added to a time."""
LARGEST: Final = Size(2**53)
"""8 PiB: exact in a float and in JSON."""
MOST: Final = 10**9
"""The largest amount of a rate."""

_MILLISECONDS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_OCTETS: Final = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_BINARY: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_DECIMAL: Final = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))

# At most 15 digits: longer numbers exceed every bound below, and are refused without big-integer arithmetic.
_DURATION: Final = re.compile(
    r"(?:([0-9]{1,15})w)?(?:([0-9]{1,15})d)?(?:([0-9]{1,15})h)?(?:([0-9]{1,15})m)?"
    r"(?:([0-9]{1,15})s)?(?:([0-9]{1,15})ms)?"
)
_SIZE: Final = re.compile(r"([0-9]{1,16}) ?([A-Za-z]{0,3})")
_RATE: Final = re.compile(r"([0-9]{1,10})/([0-9a-z]{1,40})")


def parse_duration(text: str) -> Duration:
    """Parse "5m", "1h30m", "2d" or "500ms" to seconds; units from large to small, each at most once.

    Raises `WordError`.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        if re.fullmatch(r"[0-9]{1,15}", text):
            raise WordError(f'name the unit: "{text}s" for seconds, "{text}m" for minutes')
        raise WordError(DURATION_REMEDY)
    parts = zip(match.groups(), _MILLISECONDS.values(), strict=True)
    milliseconds = sum(int(digits) * unit for digits, unit in parts if digits is not None)
    if milliseconds > LONGEST * 1000:
        raise WordError(f'write at most "{format_duration(LONGEST)}"')
    return Duration(milliseconds / 1000)


def format_duration(seconds: float) -> str:
    """A duration of 0 or more seconds as text, rounded to milliseconds: "1h30m", "0s"."""
    rest = round(seconds * 1000)
    words = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, _MILLISECONDS[unit])
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"


def parse_size(text: str) -> Size:
    """Parse "50MiB", "10kB", "1GiB" or plain "4096" to bytes; the unit's case is ignored. Raises `WordError`."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise WordError(SIZE_REMEDY)
    digits, unit = match.groups()
    if unit.lower() in {"k", "m", "g", "t"}:
        letter = "k" if unit.lower() == "k" else unit.upper()
        raise WordError(f'write "{digits}{unit.upper()}iB" (powers of 1024) or "{digits}{letter}B" (powers of 1000)')
    factor = _OCTETS.get(unit.lower())
    if factor is None:
        raise WordError(SIZE_REMEDY)
    octets = int(digits) * factor
    if octets > LARGEST:
        raise WordError(f"write at most {LARGEST} octets")
    return Size(octets)


def format_size(octets: int) -> str:
    """A size in bytes as the shortest exact text: "50MiB", "10kB", "1500B"."""
    for units in (_BINARY, _DECIMAL):
        for name, factor in units:
            if octets and octets % factor == 0:
                return f"{octets // factor}{name}"
    return f"{octets}B"


def parse_rate(text: str) -> Rate:
    """Parse a rate like "100/s", "1000/h" or "5/10s"; "0" means no limit. Raises `WordError`."""
    if text == "0":
        return Rate(0, 1.0)
    match = _RATE.fullmatch(text)
    if match is None:
        raise WordError(RATE_REMEDY)
    amount, period = int(match[1]), match[2]
    try:
        seconds = parse_duration(period if period[0].isdecimal() else f"1{period}")
    except WordError:
        raise WordError(RATE_REMEDY) from None
    if not seconds:
        raise WordError("write a period above zero; " + RATE_REMEDY)
    if amount > MOST:
        raise WordError(f"write at most {MOST}")
    return Rate(amount, float(seconds))


def format_rate(rate: Rate) -> str:
    """A rate as text: "100/s", "5/10s", or "0" for no limit."""
    if rate.amount == 0:
        return "0"
    period = format_duration(rate.seconds)
    return f"{rate.amount}/{period.removeprefix('1') if period[1:].isalpha() else period}"
