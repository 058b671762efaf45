"""Durations, sizes and rates as words: "5m", "50MiB", "100/s"."""

from typing import NamedTuple


class Duration(float):
    """Seconds."""

    __slots__ = ()


class Size(int):
    """Octets."""

    __slots__ = ()


class Rate(NamedTuple):
    """So many per so many seconds; an amount of 0 means no limit."""

    amount: int
    seconds: float
