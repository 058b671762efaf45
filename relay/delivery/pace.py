"""Rate limiting with the generic cell rate algorithm (ITU-T I.371). The state is the time of the next regular start.

No span of `rate.seconds` has more than `rate.amount` starts, bursts included. Small bursts are allowed so that a timer
that fires late does not reduce throughput. The steady interval is longer by as much; otherwise a span that begins with
a burst would exceed the limit.
"""

from relay_config.words import Rate

_BURST_SECONDS = 0.05
"""A burst has as many starts as the rate allows in this time, which is the precision expected of timers."""


class Pace:
    """Spaces starts according to a rate; an amount of 0 means no limit. Times are in seconds of the caller's clock."""

    __slots__ = ("_free_at", "_interval", "_tolerance")

    def __init__(self, rate: Rate) -> None:
        if rate.amount == 0:
            self._interval = self._tolerance = 0.0
        else:
            burst = max(1, int(rate.amount / rate.seconds * _BURST_SECONDS))
            self._interval = rate.seconds / (rate.amount - burst + 1)
            self._tolerance = (burst - 1) * self._interval
        self._free_at = 0.0

    def ready_at(self, now: float) -> float:
        """Return when the next start is allowed; `now` or earlier means at once."""
        return self._free_at - self._tolerance if self._free_at > now else now

    def allowed(self, now: float) -> int:
        """Return how many starts are allowed at `now`; a large number if there is no limit."""
        if self._interval == 0.0:
            return 1 << 30
        waiting = max(self._free_at, now) - now
        return max(0, int((self._tolerance - waiting) / self._interval + 1e-9) + 1) if waiting <= self._tolerance else 0

    def take(self, now: float) -> None:
        """Count a start at `now`."""
        self._free_at = max(self._free_at, now) + self._interval
