"""Time limits of a session: one pure planner per session, which is called when the session's single timer fires.

Commands do not restart the timer, because that would cost time for each command. Instead the shell records when
something happened, and the planner computes from these records whether the client is late and when to check again.
Times are seconds of the event loop's clock. Limits: RFC 5321 §4.5.3.2.7 (5 min per command); a minimum rate instead of
one limit for all of DATA, so that a slow honest client may send a large message (the precedent is Postfix's
smtpd_min_data_rate).
"""

from relay.smtp.server import texts
from relay.smtp.server.texts import Canned
from relay_config.schema import Limits

STRESSED_IDLE = 10.0
"""Idle timeout in seconds while connections are nearly exhausted."""


class Timers:
    """Records the activity of a session and decides whether it is late."""

    __slots__ = ("_limits", "_mark_at", "_mark_octets", "_window", "active_at", "receiving", "started_at")

    def __init__(self, limits: Limits, now: float, window: float = 60.0) -> None:
        self._limits = limits
        self._window = window
        self.started_at = now
        self.active_at = now
        """Time of the last activity: a command was completed, message bytes arrived, or the handler answered."""
        self.receiving = False
        """A message is being received."""
        self._mark_at = now
        self._mark_octets = 0

    def begin_message(self, now: float, octets: int) -> None:
        """Start to measure the rate of a message; `octets` is the number of bytes received on the connection so far."""
        self.receiving = True
        self._mark_at = now
        self._mark_octets = octets

    def check(
        self, now: float, octets: int, *, busy: bool = False, stressed: bool = False, wanted: bool = True
    ) -> Canned | float:
        """The reply that ends the session if the client is late, otherwise the time of the next check.

        `octets`: bytes received on the connection so far; `busy`: the server is working, so the client cannot be late;
        `wanted`: the message being received may still be accepted. Only such a message may exceed the session's time
        limit.
        """
        limits = self._limits
        idle = min(limits.idle_timeout, STRESSED_IDLE) if stressed else limits.idle_timeout
        if busy:
            return now + min(idle, self._window)
        if now >= self.active_at + idle:
            return texts.IDLE
        outlasts = self.receiving and wanted
        end = self.started_at + limits.session_timeout
        if now >= end and not outlasts:
            return texts.SESSION_OVER
        late = self.active_at + idle if outlasts else min(self.active_at + idle, end)
        return self._check_rate(now, octets, late) if self.receiving else min(late, now + self._window)

    def _check_rate(self, now: float, octets: int, late_at: float) -> Canned | float:
        """Check the minimum rate once per window; a message may take any time as long as it arrives fast enough."""
        if now >= self._mark_at + self._window:
            if octets - self._mark_octets < self._limits.data_rate * (now - self._mark_at):
                return texts.TOO_SLOW
            self._mark_at = now
            self._mark_octets = octets
        return min(late_at, self._mark_at + self._window)
