"""Failed logins of the last minute, by client and by user, over all workers: who must wait.

A user's count never keeps out a client that logged in as that user before: else anybody could lock anybody out by
guessing. Times are given, never read; what is counted lies in `relay.submission.counts`.
"""

from relay.submission.counts import SharedCounts

_WINDOW = 60
"""Steps of one second."""
_NAME_MAX = 128
"""Characters of a user name that count; a client may send names of kilobytes."""
_KEYS = 16_384
"""Clients and users that each worker can count; 8 MiB when all are in use."""


class SharedFailures:
    """The memory for failed logins, made before the workers are."""

    def __init__(self, workers: int) -> None:
        self.failed = SharedCounts(workers, _KEYS, _WINDOW)
        self.good = SharedCounts(workers, _KEYS, 1)
        """Which client logged in as which user."""


class AuthFailures:
    """The windows."""

    __slots__ = ("_failed", "_good")

    def __init__(self, shared: SharedFailures, worker: int) -> None:
        self._failed = shared.failed.column(worker)
        self._good = shared.good.column(worker)

    def wait(self, client: str, user: str, limit: int, now: float) -> float:
        """Seconds until this client may try to log in as `user`; 0 when now."""
        user = _short(user)
        wait = self._wait(f"client {client}", limit, now)
        if wait or not self._wait(f"user {user}", limit, now):
            return wait
        return 0.0 if self._good.since(f"{client} {user}", 0) else self._wait(f"user {user}", limit, now)

    def failed(self, client: str, user: str, now: float) -> None:
        """Count a failure."""
        self._failed.add(f"client {client}", 1, int(now))
        self._failed.add(f"user {_short(user)}", 1, int(now))

    def succeeded(self, client: str, user: str, now: float) -> None:
        """Remember that this client knows the user's password."""
        self._good.add(f"{client} {_short(user)}", 1, int(now))

    def _wait(self, key: str, limit: int, now: float) -> float:
        step = int(now)
        # What lies in the future was counted before the clock went back.
        steps = [(at, count) for at, count in self._failed.since(key, step - _WINDOW + 1) if at <= step]
        excess = sum(count for _, count in steps) - limit + 1
        for at, count in steps:
            if excess <= 0:
                break
            excess -= count
            if excess <= 0:
                return at + _WINDOW - now
        return 0.0


def _short(user: str) -> str:
    """User names in one case, as they are looked up."""
    return user[:_NAME_MAX].lower()
