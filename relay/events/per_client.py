"""Limits the events that one client may cause in a minute: the first are recorded, the others are only counted.

Refused commands, failed logins and failed TLS handshakes cost a client nothing, and each is an event. Without a limit,
one stranger could fill the disk with them. Pure: the caller passes the time.

There are two limits: one for each client, and one for all strangers together, because a network of machines has many
addresses. Clients that are trusted or logged in have only the first limit, so that strangers cannot hide their events.
"""

from collections import Counter
from typing import Final

import msgspec

WINDOW: Final = 60.0
"""Seconds after which the counts are reset."""
_STRANGERS: Final = 10
"""All strangers together may cause as many events as this number of clients."""
_MOST_REPORTED: Final = 20
"""Clients whose counts are reported one by one, the largest first; the others are reported together."""
_MOST_CLIENTS: Final = 10_000
"""Clients that are counted one by one; any further clients are counted together."""
OTHERS: Final = "others"
"""Stands for the clients that are counted together."""


class Omission(msgspec.Struct, frozen=True):
    """Events of one client that were only counted."""

    client: str
    event: str
    """Name of the event."""
    count: int


class ClientLimiter:
    """The counts of the current minute."""

    __slots__ = ("_omitted", "_recorded", "_started_at", "_strangers", "limit")

    def __init__(self) -> None:
        self.limit = 0
        """Events that one client may cause in a minute; 0 means no limit, and `admit` need not be called."""
        self._started_at = float("-inf")
        self._recorded: dict[str, int] = {}
        self._strangers = 0
        self._omitted: Counter[tuple[str, str]] = Counter()

    def over(self, now: float) -> bool:
        """Whether the minute has ended or the clock was set back; then call `take` before the next event."""
        return not 0 <= now - self._started_at < WINDOW

    def admit(self, client: str, event: str, now: float, *, stranger: bool) -> bool:
        """Whether to record an event of a client; if False, the event was counted."""
        if not self._recorded and not self._omitted:
            self._started_at = now
        if client not in self._recorded and len(self._recorded) >= _MOST_CLIENTS:
            client = OTHERS
        recorded = self._recorded.get(client, 0)
        full = stranger and self._strangers >= self.limit * _STRANGERS
        if full or recorded >= self.limit:
            if len(self._omitted) >= _MOST_CLIENTS:
                client = OTHERS
            self._omitted[client, event] += 1
            return False
        self._recorded[client] = recorded + 1
        self._strangers += stranger
        return True

    def take(self) -> list[Omission]:
        """Return the events that were only counted since the last call, and reset the counts."""
        omitted, self._omitted = self._omitted, Counter()
        self._recorded = {}
        self._strangers = 0
        ranked = [Omission(client, event, count) for (client, event), count in omitted.most_common()]
        together: Counter[str] = Counter()
        for one in ranked[_MOST_REPORTED:]:
            together[one.event] += one.count
        return ranked[:_MOST_REPORTED] + [Omission(OTHERS, event, count) for event, count in together.items()]
