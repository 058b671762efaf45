"""How long a client may take: one pure planner per session, asked when the session's single timer fires.

Nothing is re-armed per command: the shell notes when something happened, and the planner works out from the notes
whether the client is late and when to look again. Times are the loop's seconds. Limits: RFC 5321 §4.5.3.2.7 (5 min per
command); a minimum rate in place of one limit for all of DATA, so that a slow honest client may send a large message
(the precedent is Postfix's smtpd_min_data_rate).
"""

from relay.smtp.server import texts
from relay.smtp.server.texts import Canned
from relay_config.schema import Limits

STRESSED_IDLE = 10.0
"""Seconds of idleness allowed while connections are nearly exhausted."""


class Timers:
    """The notes and the verdict."""

    __slots__ = ("_limits", "_mark_at", "_mark_octets", "_window", "active_at", "receiving", "started_at")

    def __init__(self, limits: Limits, now: float, window: float = 60.0) -> None:
        self._limits = limits
        self._window = window
        self.started_at = now
        self.active_at = now
        """When a command was completed, or octets of a message came, or the server was the slow one."""
        self.receiving = False
        """A message is coming in."""
        self._mark_at = now
        self._mark_octets = 0

    def begin_message(self, now: float, octets: int) -> None:
        """Octets of a message are expected from now on; `octets` arrived on this connection before."""
        self.receiving = True
        self._mark_at = now
        self._mark_octets = octets

    def check(
        self, now: float, octets: int, *, busy: bool = False, stressed: bool = False, wanted: bool = True
    ) -> Canned | float:
        """Why the session must end, or when to look again.

        `octets`: all that arrived on the connection; `busy`: the server is at work, so the client cannot be late;
        `wanted`: the message that is coming in may still be accepted. Only such a one outlasts the session's time.
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
        """A message may take as long as it likes while it comes fast enough."""
        if now >= self._mark_at + self._window:
            if octets - self._mark_octets < self._limits.data_rate * (now - self._mark_at):
                return texts.TOO_SLOW
            self._mark_at = now
            self._mark_octets = octets
        return min(late_at, self._mark_at + self._window)
