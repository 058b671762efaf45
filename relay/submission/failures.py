"""Failed logins of the last minute, by client and by user, over all workers: who must wait.

Three windows of a minute, each over all workers:

* a client and a user: all failures. Whoever guesses one user's password from one address waits.
* a client: different guesses, whoever they are about. An application that tries an old password again and again makes
  one guess, so it does not keep out its neighbours behind the same address. Which kinds of users the guesses are about
  makes no difference: else the wait would tell which users there are.
* a user: different guesses from all clients, ten times as many. It slows down a network of machines.

The second and third do not hold for a client that logged in as that user before: else anybody could lock anybody out by
guessing. None holds for a generated secret that is right, which the caller accepts before asking here.

Times are given, never read; what is counted lies in `relay.submission.counts`, where nothing is kept in clear.
"""

from relay.submission.counts import SharedCounts

_WINDOW = 60
"""Steps of one second."""
_BY_USER = 10
"""A user's limit is so many times that of a client: fewer clients than that cannot keep a user out."""
_NAME_MAX = 128
"""Characters of a user name that count; a client may send names of kilobytes."""
_KEYS = 16_384
"""Clients and users that each worker can count; 8 MiB when all are in use."""
FAMILIAR_FOR = 24 * 3600
"""Seconds for which a client is known after a login."""


class SharedFailures:
    """The memory for failed logins, made before the workers are."""

    def __init__(self, workers: int) -> None:
        self.failed = SharedCounts(workers, _KEYS, _WINDOW)
        self.guesses = SharedCounts(workers, _KEYS, 1)
        """When a guess was made last."""
        self.good = SharedCounts(workers, _KEYS, 1)
        """Which client logged in as which user."""
        self.familiar = SharedCounts(workers, _KEYS, 1)
        """When a client logged in last."""


class AuthFailures:
    """The windows."""

    __slots__ = ("_failed", "_familiar", "_good", "_guesses")

    def __init__(self, shared: SharedFailures, worker: int) -> None:
        self._failed = shared.failed.column(worker)
        self._guesses = shared.guesses.column(worker)
        self._good = shared.good.column(worker)
        self._familiar = shared.familiar.column(worker)

    def wait(self, client: str, user: str, limit: int, now: float) -> float:
        """Seconds until this client may try to log in as `user`; 0 when now."""
        user = _short(user)
        wait = self._wait(_pair(client, user), limit, now)
        if self._good.since(_pair(client, user), 0):
            return wait
        return max(wait, self._wait(f"client {client}", limit, now), self._wait(f"user {user}", limit * _BY_USER, now))

    def failed(self, client: str, user: str, password: str, now: float) -> None:
        """Count a failure."""
        user, step = _short(user), int(now)
        self._failed.add(_pair(client, user), 1, step)
        guess = f"{_pair(client, user)} {password}"
        seen = self._guesses.since(guess, step - _WINDOW + 1)
        self._guesses.add(guess, 1, step)
        if not seen:
            self._failed.add(f"client {client}", 1, step)
            self._failed.add(f"user {user}", 1, step)

    def succeeded(self, client: str, user: str, now: float) -> None:
        """Remember that this client knows the user's password."""
        self._good.add(_pair(client, _short(user)), 1, int(now))
        self._familiar.add(client, 1, int(now))

    def familiar(self, client: str, now: float) -> bool:
        """Whether the client logged in during the last day."""
        return bool(self._familiar.since(client, int(now) - FAMILIAR_FOR))

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


def _pair(client: str, user: str) -> str:
    """One client and one user; an address has no blank."""
    return f"{client} {user}"


def _short(user: str) -> str:
    """User names in one case, as they are looked up."""
    return user[:_NAME_MAX].lower()
