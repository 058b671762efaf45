"""Password checks, requested at each AUTH. They run outside the event loop, and successes are cached for minutes.

The slow part (argon2) runs in a small thread pool. The number of waiting checks is bounded; clients beyond the limit
are told to try again later. A verified password is cached as an HMAC under a key of this process, together with the
user's record; when the record changes, the entry is no longer valid. Failures are not cached.

All refusals take the same time, see `relay.submission.passwords`. This module knows neither SMTP nor limits; the caller
counts failures.
"""

import asyncio
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, NamedTuple

from relay.model.peer import Identity
from relay.submission.passwords import Credential, PasswordError, is_password, is_secret, prepare
from relay.submission.users import User, Users

THREADS: Final = 2
"""Hashes computed at the same time; each takes 19 MiB and one core."""
MOST_WAITING: Final = 64
"""Maximum number of running and waiting hashes; at 20 ms each on two threads, the last one waits about 0.6 s."""
REMEMBERED_FOR: Final = 300.0
"""Seconds for which a verified password is cached."""
MOST_REMEMBERED: Final = 10_000
_MOST_NAME: Final = 255
"""Maximum characters of a name; longer names are refused without a lookup."""


class BusyError(Exception):
    """Too many passwords are being checked; this one was not checked. Answered 454 4.7.0 (RFC 4954 §6)."""


class _Remembered(NamedTuple):
    user: User
    until: float


def password_pool() -> ThreadPoolExecutor:
    """Create the thread pool for `Authenticator`. Call it after the process has forked; the caller shuts it down."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix="password")


class Authenticator:
    """Verifies names and passwords against the users."""

    def __init__(self, users: Users, *, clock: Callable[[], float], pool: Executor) -> None:
        """`clock` returns seconds and never goes backwards (time.monotonic)."""
        self._users = users
        self._clock = clock
        self._pool = pool
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._running: dict[tuple[bytes, Credential | None], asyncio.Future[bool]] = {}

    def recognise(self, name: str, password: str) -> Identity | None:
        """The identity, if the password is the user's generated secret. None means unknown, not wrong. Takes µs.

        Generated secrets cannot be guessed, so this may be called even for a client that must wait after failures.
        Passwords chosen by people are not accepted here, cached or not, because that would confirm a guess.
        """
        prepared = _comparable(name, password)
        user = None if prepared is None else self._find(name)
        right = prepared is not None and is_secret(None if user is None else user.credential, prepared)
        return self._identity(user) if user is not None and right else None

    def current(self, identity: Identity) -> Identity | None:
        """The current identity of a login: the same object while the users have not changed; None if the login ended.

        A login ends when its user is removed or disabled or gets another password. Other changes, such as to the
        senders, result in a new identity.
        """
        generation = self._users.newest_generation()
        if generation == identity.generation:
            return identity
        user = self._users.still_valid(identity.user, identity.generation)
        return None if user is None else self._identity(user)

    async def verify(self, name: str, password: str) -> Identity | None:
        """The identity, or None if name or password is wrong.

        Raises `BusyError` or `VerificationImpossibleError`; both mean that the client should try again later.
        """
        prepared = _comparable(name, password)
        if prepared is None:
            return None
        user = self._find(name)
        credential = None if user is None else user.credential
        digest = self._digest(name, prepared)
        right_secret = is_secret(credential, prepared)
        if user is not None and (right_secret or self._remembers(digest, user)):
            return self._identity(user)
        right_password = await self._slowly(digest, credential, prepared)
        # The record may have changed while the hash was computed; then the result is for the old record.
        if not right_password or user is None or self._find(name) != user:
            return None
        self._remember(digest, user)
        return self._identity(user)

    def _find(self, name: str) -> User | None:
        user = self._users.find(name)
        return None if user is None or user.disabled else user

    def _identity(self, user: User) -> Identity:
        return Identity(user.name, user.senders, self._users.generation)

    def _digest(self, name: str, prepared: str) -> bytes:
        named = name.lower().encode("utf-8", "surrogatepass")
        # The length prefix makes ("a", "bc") and ("ab", "c") different.
        text = len(named).to_bytes(4, "big") + named + prepared.encode()
        return hmac.digest(self._key, text, "sha256")

    async def _slowly(self, digest: bytes, credential: Credential | None, prepared: str) -> bool:
        # The same check from many connections at once (an application that starts) is computed only once.
        question = (digest, credential)
        running = self._running.get(question)
        if running is None:
            if len(self._running) >= MOST_WAITING:
                raise BusyError
            running = asyncio.get_running_loop().run_in_executor(self._pool, is_password, credential, prepared)
            self._running[question] = running
            running.add_done_callback(lambda _: self._running.pop(question, None))
        # A client that disconnects cancels only its own waiting, not that of the others.
        return await asyncio.shield(running)

    def _remembers(self, digest: bytes, user: User) -> bool:
        remembered = self._remembered.get(digest)
        if remembered is None:
            return False
        if remembered.user != user or remembered.until <= self._clock():
            del self._remembered[digest]
            return False
        self._remembered.move_to_end(digest)
        return True

    def _remember(self, digest: bytes, user: User) -> None:
        self._remembered[digest] = _Remembered(user, self._clock() + REMEMBERED_FOR)
        self._remembered.move_to_end(digest)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def _comparable(name: str, password: str) -> str | None:
    """The password in the form used for comparison; None if no user can have such a name or password."""
    try:
        return prepare(password) if len(name) <= _MOST_NAME else None
    except PasswordError:
        return None
