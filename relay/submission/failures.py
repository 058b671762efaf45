"""Failed logins of the last minute, by client and by user, to decide which clients must wait.

There are three windows of one minute, each counted over all workers:

* by client and user: all failures. A client that guesses one user's password from one address must wait.
* by client: different guesses, for any user. An application that keeps trying an old password makes only one guess, so
  it does not lock out other clients behind the same address. It makes no difference whether the users exist; otherwise
  the wait would disclose which users exist.
* by user: different guesses from all clients, with ten times the limit. It slows down attacks from many machines.

The second and third windows do not apply to a client that logged in as that user before; otherwise anyone could lock
out a user by guessing. No window applies to a correct generated secret, which the caller accepts before it asks here.

The caller passes the times; this module reads no clock. The counts are stored in `relay.submission.counts`, which keeps
nothing in clear text.
"""

from relay.submission.counts import SharedCounts

_WINDOW = 60
"""Length of a window, in steps of one second."""
_BY_USER = 10
"""A user's limit is this many times a client's limit; fewer clients than this cannot lock a user out."""
_NAME_MAX = 128
"""Characters of a user name that are used as the key; a client may send names of several kilobytes."""
_KEYS = 16_384
"""Number of clients and users that each worker can count; 8 MiB when all are in use."""
FAMILIAR_FOR = 24 * 3600
"""Seconds for which a client is familiar after a login."""


class SharedFailures:
    """The shared memory for failed logins; create it before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self.failed = SharedCounts(workers, _KEYS, _WINDOW)
        self.guesses = SharedCounts(workers, _KEYS, 1)
        """The last time of each guess."""
        self.good = SharedCounts(workers, _KEYS, 1)
        """The pairs of client and user with a successful login."""
        self.familiar = SharedCounts(workers, _KEYS, 1)
        """The last time that each client logged in."""


class AuthFailures:
    """The windows, as one worker uses them."""

    __slots__ = ("_failed", "_familiar", "_good", "_guesses")

    def __init__(self, shared: SharedFailures, worker: int) -> None:
        self._failed = shared.failed.column(worker)
        self._guesses = shared.guesses.column(worker)
        self._good = shared.good.column(worker)
        self._familiar = shared.familiar.column(worker)

    def wait(self, client: str, user: str, limit: int, now: float) -> float:
        """Seconds until this client may try to log in as `user`; 0 if it may try now."""
        user = _short(user)
        wait = self._wait(_pair(client, user), limit, now)
        if self._good.since(_pair(client, user), 0):
            return wait
        return max(wait, self._wait(f"client {client}", limit, now), self._wait(f"user {user}", limit * _BY_USER, now))

    def failed(self, client: str, user: str, password: str, now: float) -> None:
        """Count a failed login."""
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
        # Steps in the future were counted before the clock went back; they are ignored.
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
    """The key of a client and a user. It is unambiguous because an address has no space."""
    return f"{client} {user}"


def _short(user: str) -> str:
    """A user name, shortened and in lower case, because users are looked up without regard to case."""
    return user[:_NAME_MAX].lower()
