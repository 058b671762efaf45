"""Failed logins of the last minute, by client and by user: who must wait. Pure, bounded in memory.

A user's count never keeps out a client that logged in as that user before: else anybody could lock anybody out by
guessing. Counts are those of one worker process.
"""

_WINDOW = 60.0
_NAME_MAX = 128
"""Characters of a user name that count; a client may send names of kilobytes."""
_KEYS_MAX = 10_000


class AuthFailures:
    """The windows."""

    __slots__ = ("_failures", "_good")

    def __init__(self) -> None:
        self._failures: dict[tuple[str, str], list[float]] = {}
        self._good: dict[tuple[str, str], None] = {}

    def wait(self, client: str, user: str, limit: int, now: float) -> float:
        """Seconds until this client may try to log in as `user`; 0 when now."""
        user = _short(user)
        wait = self._wait(("client", client), limit, now)
        if (client, user) not in self._good:
            wait = max(wait, self._wait(("user", user), limit, now))
        return wait

    def failed(self, client: str, user: str, limit: int, now: float) -> None:
        """Count a failure."""
        for key in (("client", client), ("user", _short(user))):
            times = self._failures.pop(key, [])
            times.append(now)
            # Put back at the end: the dictionary's order is that of the last failure.
            self._failures[key] = times[-limit:]
        while len(self._failures) > _KEYS_MAX:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, client: str, user: str) -> None:
        """Remember that this client knows the user's password."""
        key = (client, _short(user))
        self._good.pop(key, None)
        self._good[key] = None
        if len(self._good) > _KEYS_MAX:
            del self._good[next(iter(self._good))]

    def _wait(self, key: tuple[str, str], limit: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None:
            return 0.0
        recent = [at for at in times if now - _WINDOW < at <= now]
        if not recent:
            del self._failures[key]
            return 0.0
        return 0.0 if len(recent) < limit else recent[-limit] + _WINDOW - now


def _short(user: str) -> str:
    """User names in one case, as they are looked up."""
    return user[:_NAME_MAX].lower()
