"""Durations, sizes and rates as words: "5m", "50MiB", "100/s"."""

from typing import NamedTuple


class Duration(float):
    """Seconds."""

    __slots__ = ()


class Size(int):
    """Octets."""

    __slots__ = ()


class Rate(NamedTuple):
    """So many per so many seconds; a count of 0 means no limit."""

    count: int
    seconds: float
