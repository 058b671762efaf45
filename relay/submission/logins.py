"""Logins: who may try, what is counted, and whether a login still holds.

The order is what matters here. A generated secret that is right is accepted first, whatever others guessed: it cannot
be guessed, so nobody can be locked out by guesses about it. For everything else the windows are asked before the
password is looked at, so that a guess is not confirmed while the guesser has to wait, and costs no hash.
"""

from collections.abc import Callable

from relay.events.recorder import Recorder
from relay.model.peer import Identity, Peer
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.authenticator import BusyError
from relay.submission.failures import AuthFailures
from relay.submission.networks import client_key
from relay.submission.outlet import Verifier
from relay.submission.passwords import VerificationImpossibleError


class Logins:
    """The logins at one worker."""

    def __init__(
        self, verifier: Verifier, failures: AuthFailures, recorder: Recorder, steady: Callable[[], float]
    ) -> None:
        self._verifier = verifier
        self._failures = failures
        self._recorder = recorder
        self._steady = steady

    async def login(self, peer: Peer, user: str, password: str, limit: int) -> Identity | Reply:
        """Who that is, or the refusal. `limit`: `limits.auth_failures_per_minute`."""
        client = client_key(peer.address)
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
            # Counted after the check: counting before would keep out an application that opens its whole pool at once.
            # Guesses made at the same time pass the limit by no more than a client may have connections.
            self._failures.failed(client, user, password, self._steady())
            return texts.WRONG_PASSWORD
        self._failures.succeeded(client, user, self._steady())
        return identity

    def renew(self, peer: Peer) -> Reply | None:
        """Bring the session's identity up to date; the refusal if its login does not hold any more.

        Asked at each MAIL: a user who was removed, or whose rights changed, may have sessions that stay open for long.
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
        """Whether a client at this address logged in during the last day."""
        return self._failures.familiar(client_key(address), self._steady())
