"""Logins: which clients may try, what is counted, and whether a login is still valid.

The order of the checks is important. A correct generated secret is accepted first, regardless of failed attempts: it
cannot be guessed, so failed guesses must not lock out its owner. For all other passwords, the windows are checked
before the password, so that a guess is neither confirmed nor costs a hash while the client has to wait.
"""

from collections.abc import Callable

from relay.events.recorder import Recorder
from relay.model.peer import Identity, Peer, client_of
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.authenticator import BusyError
from relay.submission.failures import AuthFailures
from relay.submission.outlet import Verifier
from relay.submission.passwords import VerificationImpossibleError


class Logins:
    """Handles the logins of one worker."""

    def __init__(
        self, verifier: Verifier, failures: AuthFailures, recorder: Recorder, steady: Callable[[], float]
    ) -> None:
        self._verifier = verifier
        self._failures = failures
        self._recorder = recorder
        self._steady = steady

    async def login(self, peer: Peer, user: str, password: str, limit: int) -> Identity | Reply:
        """Check a login. Returns the identity, or the refusal. `limit`: `limits.auth_failures_per_minute`."""
        client = client_of(peer.address)
        identity = self._verifier.recognise(user, password)
        if identity is None:
            wait = self._failures.wait(client, user, limit, self._steady())
            if wait:
                self._recorder.authenticated(peer, user, success=False)
                return texts.auth_blocked(wait)
            try:
                identity = await self._verifier.verify(user, password)
            except BusyError:
                return texts.AUTH_BUSY
            except VerificationImpossibleError as error:
                self._recorder.problem("authenticate", error)
                return texts.AUTH_BUSY
        self._recorder.authenticated(peer, user, success=identity is not None)
        if identity is None:
            # Counted after the check, because counting before it would lock out an application that opens its whole
            # connection pool at once. Simultaneous guesses can exceed the limit by at most the number of connections
            # that a client may have.
            self._failures.failed(client, user, password, self._steady())
            return texts.WRONG_PASSWORD
        self._failures.succeeded(client, user, self._steady())
        return identity

    def renew(self, peer: Peer) -> Reply | None:
        """Update the session's identity. Returns the refusal if its login is no longer valid.

        Called at each MAIL, because a user who was removed, or whose rights changed, may have long-lived sessions.
        """
        identity = peer.identity
        if identity is None:
            return None
        current = self._verifier.current(identity)
        if current is None:
            return texts.LOGIN_OVER
        peer.identity = current
        return None

    def familiar(self, address: str) -> bool:
        """Whether the client that this address belongs to logged in during the last day."""
        return self._failures.familiar(client_of(address), self._steady())
