"""Submission: who may send what, and the way of an accepted message into the queue.

Implements `relay.smtp.server.handler.Handler`. All policy is decided by the small pure modules beside this one; here
they meet the clock, the queue and the events. The ordinary message is handled without a task or a thread: its header is
fixed and signed inline and the reply waits for the queue's future. Slow keys and large files go through a few threads.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relay.events.recorder import Recorder
from relay.message.dkim.sign import KeyRing
from relay.message.fix import Facts, Fixed, fix
from relay.message.incoming import Incoming, NoRoomError
from relay.model.peer import Identity, Peer, TlsFailure
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.authenticator import Authenticator, password_pool
from relay.submission.compose import Draft, draft
from relay.submission.disk import DiskSpace
from relay.submission.failures import AuthFailures, SharedFailures
from relay.submission.logins import Logins
from relay.submission.networks import Networks
from relay.submission.outlet import Outlet, Verifier
from relay.submission.quota import Quota, shared_usage
from relay.submission.senders import policy
from relay.submission.users import FILE, Users
from relay_config.schema import Limits, Settings
from relay_queue.ids import new_id
from relay_queue.model import Put
from relay_queue.protocol import Queue, QueueError, QueueFailedError, QueueFullError

_THREADS = 4


@dataclass(slots=True, frozen=True)
class _Rules:
    """What follows from the settings; replaced as a whole on reload."""

    hostname: str
    limits: Limits
    networks: Networks
    auth: dict[str, str]
    """`auth` of each listener by its address."""
    keys: KeyRing
    disk: DiskSpace
    default_domain: str | None
    repair_long_lines: bool

    @classmethod
    def of(cls, settings: Settings, keys: KeyRing, clock: Callable[[], float]) -> "_Rules":
        return cls(
            settings.hostname,
            settings.limits,
            Networks(settings.submission.trusted_networks),
            {listener.address: listener.auth for listener in settings.listener},
            keys,
            DiskSpace(settings, clock),
            settings.submission.default_domain,
            settings.submission.long_lines == "repair",
        )


class Shared:
    """What the workers of a server count together; made before they are forked."""

    def __init__(self, workers: int) -> None:
        self.usage = shared_usage(workers)
        self.failures = SharedFailures(workers)


class SubmissionHandler:
    """Decides for the sessions of one worker, and takes their mail."""

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
        """`verifier` defaults to the users of the data folder; raises `UserFileError` where their file is damaged.

        `shared` and the worker's `slot` in it: None counts alone. `clock` dates messages; limits count by `steady`,
        which is the same in all workers and goes on when the clock is set.
        """
        self._queue = queue
        self._outlet = outlet
        self._recorder = recorder
        self._passwords: ThreadPoolExecutor | None = None
        self._verifier = verifier if verifier is not None else self._users_of(settings)
        self._clock = clock
        self._steady = steady
        self._rules = _Rules.of(settings, keys, clock)
        shared = shared if shared is not None else Shared(slot + 1)
        self._quota = Quota(shared.usage.column(slot))
        failures = AuthFailures(shared.failures, slot)
        self._logins = Logins(self._verifier, failures, recorder, steady)
        self._threads = ThreadPoolExecutor(_THREADS, "relay-sign")
        self._stopping = False

    def reload(self, settings: Settings, keys: KeyRing) -> None:
        """Use new settings and keys from the next command on; what was counted stays."""
        self._rules = _Rules.of(settings, keys, self._clock)

    def stop(self) -> None:
        """Accept no new transactions; what was begun may end."""
        self._stopping = True

    def close(self) -> None:
        """Let the threads go; call when no session is left."""
        self._threads.shutdown(wait=True)
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
        """See `Handler`. Nothing is kept of a session."""

    def authenticate(self, peer: Peer, user: str, password: str) -> asyncio.Future[Identity | Reply]:
        """See `Handler`."""
        limit = self._rules.limits.auth_failures_per_minute
        return asyncio.get_running_loop().create_task(self._logins.login(peer, user, password, limit))

    def familiar(self, address: str) -> bool:
        """Whether an address is trusted, or a client there logged in during the last day."""
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
            exceeded = self._messages_exceeded(identity, 1, self._steady())
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

        Whoever may relay may send anywhere: there are no local domains, so no form of an address (`%`, `!`, source
        routes, literals) can turn an outsider's mail into a relayed one.
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
        return self._recipients_exceeded(identity, len(transaction.recipients) + 1, self._steady())

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
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        steady = self._steady()
        try:
            drafted = self._draft(peer, transaction, content, steady)
            if isinstance(drafted, Reply):
                content.discard()
                reply.set_result(drafted)
                return reply
            if peer.identity is not None and self._limited:
                reply.add_done_callback(partial(self._settle, peer.identity.user, len(transaction.recipients), steady))
            if drafted.slow:
                signed = asyncio.get_running_loop().run_in_executor(self._threads, drafted.sign)
                signed.add_done_callback(partial(self._signed, peer, drafted, reply))
            else:
                drafted.sign()
                self._store(peer, drafted, reply)
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong here is our fault: temporary to the client
            self._fail(content, reply, error)
        return reply

    # -- steps of an acceptance -------------------------------------------------------------------------------------

    def _draft(self, peer: Peer, transaction: Transaction, content: Incoming, steady: float) -> Draft | Reply:
        """Check and fix a whole message."""
        rules, identity = self._rules, peer.identity
        if identity is None and (self._auth_of(peer) == "required" or not peer.trusted):
            # The session refused every RCPT already; this line is what "never an open relay" rests on.
            return texts.NO_RELAY
        assert content.header is not None, "the session closes the content"
        now = self._clock()
        facts = Facts(
            id=new_id(now),
            hostname=rules.hostname,
            now=now,
            fields=rules.limits.header_fields,
            received_fields=rules.limits.received_fields,
            default_domain=rules.default_domain,
        )
        fixed = fix(content.header, facts)
        if isinstance(fixed, Reply):
            return fixed
        if identity is not None:
            denied = _author_denied(identity, fixed)
            if denied is not None:
                return texts.author_denied(denied, identity.senders)
        exceeded = None if identity is None else self._charge(identity, len(transaction.recipients), steady)
        if exceeded is not None:
            return exceeded
        return draft(peer, transaction, content, fixed, facts, rules.keys.find(fixed.authors[0].domain))

    def _signed(self, peer: Peer, drafted: Draft, reply: asyncio.Future[Reply], done: asyncio.Future[None]) -> None:
        """A thread has signed."""
        try:
            done.result()
            self._store(peer, drafted, reply)
        except Exception as error:  # noqa: BLE001 -- as in accept
            self._fail(drafted.content, reply, error)

    def _store(self, peer: Peer, drafted: Draft, reply: asyncio.Future[Reply]) -> None:
        put = drafted.put()
        self._outlet.admit(put)
        stored = self._queue.put(put)
        stored.add_done_callback(partial(self._stored, peer, put, drafted.content, reply))

    def _stored(
        self, peer: Peer, put: Put, content: Incoming, reply: asyncio.Future[Reply], done: asyncio.Future[None]
    ) -> None:
        """The queue has the message on disk, or not."""
        try:
            done.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- as in accept
            self._fail(content, reply, error)
            return
        if not reply.done():
            reply.set_result(Reply(250, "2.0.0", f"Ok: queued as {put.entry.message.id}"))
        try:
            self._recorder.accepted(put.entry, peer)
            self._outlet.offer(put)
        except Exception as error:  # noqa: BLE001 -- it is on disk: whatever happens now, the answer is 250
            self._recorder.problem("offer", error)

    def _fail(self, content: Incoming, reply: asyncio.Future[Reply], error: BaseException) -> None:
        """Nothing was stored: let go of the content and answer what fits."""
        try:
            content.discard()
        except (OSError, QueueError) as second:
            self._recorder.problem("discard", second)
        if isinstance(error, QueueFullError | NoRoomError):
            answer = texts.NO_DISK
        elif isinstance(error, QueueFailedError):
            answer = texts.QUEUE_FAILED
        else:
            answer = texts.INTERNAL
            self._recorder.problem("accept", error)
        if not reply.done():
            reply.set_result(answer)

    # -- rules ------------------------------------------------------------------------------------------------------

    def _auth_of(self, peer: Peer) -> str:
        # A listener that a reload removed while its sessions live on: the strictest rule.
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

    def _charge(self, identity: Identity, recipients: int, now: float) -> Reply | None:
        """Count a message against its user's limits, or refuse it."""
        user = identity.user
        if not self._limited:
            return None
        # Counted first, looked at after: then messages at the same time, here or in another worker, cannot both pass.
        self._quota.add(user, 1, recipients, now)
        exceeded = self._messages_exceeded(identity, 0, now) or self._recipients_exceeded(identity, 0, now)
        if exceeded is not None:
            self._quota.add(user, -1, -recipients, now)
        return exceeded

    def _settle(self, user: str, recipients: int, now: float, reply: asyncio.Future[Reply]) -> None:
        """What was counted and could not be stored was not sent: the client is told to send it again."""
        if reply.cancelled() or reply.result().code >= 400:
            self._quota.add(user, -1, -recipients, now)

    @property
    def _limited(self) -> bool:
        limits = self._rules.limits
        return bool(limits.messages_per_hour or limits.recipients_per_hour)

    def _messages_exceeded(self, identity: Identity, more: int, now: float) -> Reply | None:
        limit = self._rules.limits.messages_per_hour
        if not limit:
            return None
        wait = self._quota.messages_wait(identity.user, more, limit, now)
        return texts.messages_exceeded(limit, wait) if wait else None

    def _recipients_exceeded(self, identity: Identity, more: int, now: float) -> Reply | None:
        limit = self._rules.limits.recipients_per_hour
        if not limit:
            return None
        wait = self._quota.recipients_wait(identity.user, more, limit, now)
        return texts.recipients_exceeded(limit, wait) if wait else None


def _author_denied(identity: Identity, fixed: Fixed) -> str | None:
    """The first address of From that the user may not use."""
    allowed = policy(identity.senders)
    if allowed.any:
        return None
    for author in fixed.authors:
        if not allowed.allows(author.address, author.domain):
            return author.address
    return None
