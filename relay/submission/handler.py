"""The SMTP sessions' policy: who may log in, who may send as whom, and how much.

Implements `relay.smtp.server.handler.Handler`. Every decision is made by the small pure modules beside this one; here
they meet the clock and the queue. A complete message goes to the submission core (`relay.submission.submission`).
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from relay.events.recorder import Recorder
from relay.message.dkim.sign import KeyRing
from relay.message.incoming import Incoming
from relay.model.peer import Identity, Peer, TlsFailure
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.allowance import Allowance
from relay.submission.authenticator import Authenticator, password_pool
from relay.submission.failures import AuthFailures, SharedFailures
from relay.submission.logins import Logins
from relay.submission.outlet import Outlet, Verifier
from relay.submission.quota import Quota, shared_usage
from relay.submission.rules import Rules
from relay.submission.senders import policy
from relay.submission.submission import Submission
from relay.submission.users import FILE, Users
from relay_config.schema import Settings
from relay_queue.protocol import Queue


class Shared:
    """The counts that all workers of a server share; create it before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self.usage = shared_usage(workers)
        self.failures = SharedFailures(workers)


class SubmissionHandler:
    """Decides for the sessions of one worker."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        outlet: Outlet,
        recorder: Recorder,
        *,
        keys: KeyRing,
        verifier: Verifier | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        shared: Shared | None = None,
        slot: int = 0,
    ) -> None:
        """`verifier` defaults to the users of the data folder. Raises `UserFileError` if their file is damaged.

        `shared` holds the counts of all workers, `slot` is this worker's index in it; without `shared`, the worker
        counts alone. `clock` dates messages (seconds since 1970). Limits use `steady` (seconds), which is the same in
        all workers and is not affected when the system clock is set.
        """
        self._queue = queue
        self._recorder = recorder
        self._passwords: ThreadPoolExecutor | None = None
        self._verifier = verifier if verifier is not None else self._users_of(settings)
        self._clock = clock
        self._steady = steady
        self._rules = Rules.of(settings, keys, clock)
        shared = shared if shared is not None else Shared(slot + 1)
        self._allowance = Allowance(Quota(shared.usage.column(slot)), self._rules.limits)
        self._submission = Submission(queue, outlet, recorder, self._rules, self._allowance, clock=clock, steady=steady)
        failures = AuthFailures(shared.failures, slot)
        self._logins = Logins(self._verifier, failures, recorder, steady)
        self._stopping = False

    def reload(self, settings: Settings, keys: KeyRing) -> None:
        """Use new settings and keys from the next command on; what was counted stays."""
        self._rules = self._submission.rules = Rules.of(settings, keys, self._clock)
        self._allowance.limits = settings.limits

    def stop(self) -> None:
        """Accept no new transactions; started ones may finish."""
        self._stopping = True

    def close(self) -> None:
        """Let the threads go; call when no session is left."""
        self._submission.close()
        if self._passwords is not None:
            self._passwords.shutdown(wait=True)

    def _users_of(self, settings: Settings) -> Verifier:
        users = Users(Path(settings.data_dir) / FILE, lambda error: self._recorder.problem("users", error))
        self._passwords = password_pool()
        return Authenticator(users, clock=time.monotonic, pool=self._passwords)

    # -- the session ------------------------------------------------------------------------------------------------

    def connected(self, peer: Peer) -> Reply | None:
        """See `Handler`."""
        peer.trusted = peer.address in self._rules.networks
        return self._closed()

    def disconnected(self, peer: Peer) -> None:
        """See `Handler`. There is no state per session to release."""

    def authenticate(self, peer: Peer, user: str, password: str) -> asyncio.Future[Identity | Reply]:
        """See `Handler`."""
        limit = self._rules.limits.auth_failures_per_minute
        return asyncio.get_running_loop().create_task(self._logins.login(peer, user, password, limit))

    def familiar(self, address: str) -> bool:
        """Whether an address is trusted, or its client logged in during the last day."""
        return address in self._rules.networks or self._logins.familiar(address)

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        """See `Handler`."""
        self._recorder.refused(peer, command, reply)

    def handshake_failed(self, peer: Peer, failure: TlsFailure) -> None:
        """See `Handler`."""
        peer.trusted = peer.address in self._rules.networks
        self._recorder.tls_failed(peer, failure)

    # -- the transaction --------------------------------------------------------------------------------------------

    def mail(self, peer: Peer, transaction: Transaction) -> Reply | None:
        """See `Handler`."""
        closed = self._closed()
        if closed is not None:
            return closed
        over = self._logins.renew(peer)
        if over is not None:
            return over
        identity = peer.identity
        if identity is not None:
            sender = transaction.sender
            # Users need the null sender for read receipts (RFC 8098 §3).
            if sender and not policy(identity.senders).allows(sender, transaction.sender_domain):
                return texts.sender_denied(sender, identity.senders)
            exceeded = self._allowance.messages_exceeded(identity, 1, self._steady())
            if exceeded is not None:
                return exceeded
        elif self._auth_of(peer) == "required":
            return texts.AUTH_REQUIRED
        else:
            # A reload may have changed the networks while the session was open.
            peer.trusted = peer.address in self._rules.networks
        return self._no_room()

    def rcpt(self, peer: Peer, transaction: Transaction, recipient: RecipientPath) -> Reply | None:
        """See `Handler`.

        A client that may relay may send to any address. There are no local domains, so an outsider cannot use a special
        form of an address (`%`, `!`, source routes, literals) to have mail relayed.
        """
        del recipient
        identity = peer.identity
        if identity is None:
            auth = self._auth_of(peer)
            if auth == "required":
                return texts.AUTH_REQUIRED
            if not peer.trusted:
                return texts.NO_RELAY_AUTH if auth == "optional" else texts.NO_RELAY
            return None
        return self._allowance.recipients_exceeded(identity, len(transaction.recipients) + 1, self._steady())

    def incoming(self, peer: Peer, transaction: Transaction) -> Incoming | Reply:
        """See `Handler`."""
        del transaction
        refusal = self._closed() or self._no_room()
        if refusal is not None:
            return refusal
        return Incoming(
            self._queue.new_file,
            header_limit=self._rules.limits.header_size,
            discard_file=self._queue.discard_file,
            take_long_lines=self._rules.repair_long_lines and (peer.identity is not None or peer.trusted),
        )

    def accept(self, peer: Peer, transaction: Transaction, content: Incoming) -> asyncio.Future[Reply]:
        """See `Handler`."""
        return self._submission.submit(peer, transaction, content)

    # -- rules ------------------------------------------------------------------------------------------------------

    def _auth_of(self, peer: Peer) -> str:
        # If a reload removed the listener while its sessions continue, the strictest rule applies.
        return self._rules.auth.get(peer.listener, "required")

    def _closed(self) -> Reply | None:
        if self._stopping:
            return texts.STOPPING
        if self._queue.failed() is not None or self._queue.damaged() is not None:
            return texts.QUEUE_FAILED
        return None

    def _no_room(self) -> Reply | None:
        try:
            return None if self._rules.disk.room() else texts.NO_DISK
        except OSError as error:
            self._recorder.problem("disk", error)
            return texts.INTERNAL
