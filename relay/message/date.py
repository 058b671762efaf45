"""Dates for header fields (RFC 5322 §3.3), always in UTC. Avoids the `email` package, which is slow to import."""

import time
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def stamp(now: float) -> str:
    """Format `now` (seconds since the epoch), for example as `Fri, 02 Jan 2026 03:04:05 +0000`."""
    return _stamp(int(now))


@lru_cache(maxsize=16)
def _stamp(second: int) -> str:
    at = time.gmtime(second)
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{_DAYS[at.tm_wday]}, {at.tm_mday:02} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04} {clock} +0000"
