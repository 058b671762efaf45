"""The submission core: takes a complete message from checks to a durable place in the queue.

The SMTP handler uses it, and every other way of submitting mail to a running server can. An ordinary message needs
neither a task nor a thread: its header is repaired and signed on the event loop, and the answer waits for the queue's
future. Slow keys and large files are signed in a few threads.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from relay.events.recorder import Recorder
from relay.message.incoming import Incoming, NoRoomError
from relay.model.peer import Identity, Peer
from relay.model.transaction import Transaction
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.allowance import Allowance
from relay.submission.compose import Draft
from relay.submission.outlet import Outlet
from relay.submission.prepare import prepare
from relay.submission.rules import Rules
from relay_queue.model import Put
from relay_queue.protocol import Queue, QueueError, QueueFailedError, QueueFullError

_THREADS = 4


class Stored(Reply, frozen=True):
    """The positive reply to a message that is on disk."""

    id: str
    """Its queue id."""


class Submission:
    """Accepts messages for one worker. The caller has decided that the peer may submit (see `admits`)."""

    def __init__(
        self,
        queue: Queue,
        outlet: Outlet,
        recorder: Recorder,
        rules: Rules,
        allowance: Allowance,
        *,
        clock: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        """`clock` gives Unix time, which dates messages; `steady` counts seconds for the limits of a user."""
        self.rules = rules
        self._queue = queue
        self._outlet = outlet
        self._recorder = recorder
        self._allowance = allowance
        self._clock = clock
        self._steady = steady
        self._threads = ThreadPoolExecutor(_THREADS, "relay-sign")

    def close(self) -> None:
        """Let the threads go; call when nothing is being submitted any more."""
        self._threads.shutdown(wait=True)

    def admits(self, peer: Peer) -> bool:
        """Whether this client may submit at all: it authenticated, or its network is trusted and needs no login."""
        if peer.identity is not None:
            return True
        # A reload may have removed the listener while its sessions go on; then the strictest rule applies.
        return peer.trusted and self.rules.auth.get(peer.listener, "required") != "required"

    def submit(self, peer: Peer, transaction: Transaction, content: Incoming) -> asyncio.Future[Reply]:
        """Check, repair, sign and store a message: `Stored` once it is on disk, or the refusal.

        `peer.identity` is who submits, `transaction` has the sender and the recipients, and `content` is closed. The
        content belongs to the submission from here on. Never raises: faults of the relay are temporary refusals.
        """
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        steady, identity = self._steady(), peer.identity
        try:
            drafted = self._draft(peer, transaction, content, steady)
            if isinstance(drafted, Reply):
                content.discard()
                reply.set_result(drafted)
                return reply
            if identity is not None and self._allowance.limited:
                reply.add_done_callback(partial(self._settle, identity, len(transaction.recipients), steady))
            if drafted.slow:
                signed = asyncio.get_running_loop().run_in_executor(self._threads, drafted.sign)
                signed.add_done_callback(partial(self._signed, peer, drafted, reply))
            else:
                drafted.sign()
                self._store(peer, drafted, reply)
        except Exception as error:  # noqa: BLE001 -- any fault here is the relay's own: temporary to the client
            self._fail(content, reply, error)
        return reply

    def _draft(self, peer: Peer, transaction: Transaction, content: Incoming, steady: float) -> Draft | Reply:
        if not self.admits(peer):
            # The session has already refused every RCPT; "never an open relay" rests on this line.
            return texts.NO_RELAY
        drafted = prepare(self.rules, peer, transaction, content, self._clock())
        if isinstance(drafted, Reply) or peer.identity is None:
            return drafted
        return self._allowance.charge(peer.identity, len(transaction.recipients), steady) or drafted

    def _signed(self, peer: Peer, drafted: Draft, reply: asyncio.Future[Reply], done: asyncio.Future[None]) -> None:
        """A thread has signed."""
        try:
            done.result()
            self._store(peer, drafted, reply)
        except Exception as error:  # noqa: BLE001 -- as in submit
            self._fail(drafted.content, reply, error)

    def _store(self, peer: Peer, drafted: Draft, reply: asyncio.Future[Reply]) -> None:
        put = drafted.put()
        self._outlet.admit(put)
        stored = self._queue.put(put)
        stored.add_done_callback(partial(self._stored, peer, put, drafted.content, reply))

    def _stored(
        self, peer: Peer, put: Put, content: Incoming, reply: asyncio.Future[Reply], done: asyncio.Future[None]
    ) -> None:
        """The queue has the message on disk, or has failed to store it."""
        try:
            done.result()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 -- as in submit
            self._fail(content, reply, error)
            return
        message_id = put.entry.message.id
        if not reply.done():
            reply.set_result(Stored(250, "2.0.0", f"Ok: queued as {message_id}", message_id))
        try:
            self._recorder.accepted(put.entry, peer)
            self._outlet.offer(put)
        except Exception as error:  # noqa: BLE001 -- the message is on disk: the answer stays 250 whatever fails now
            self._recorder.problem("offer", error)

    def _fail(self, content: Incoming, reply: asyncio.Future[Reply], error: BaseException) -> None:
        """Nothing was stored: discard the content and give the fitting answer."""
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

    def _settle(self, identity: Identity, recipients: int, charged_at: float, reply: asyncio.Future[Reply]) -> None:
        """Refund what was counted but not stored: the client is told to send it again."""
        if reply.cancelled() or reply.result().code >= 400:
            self._allowance.refund(identity, recipients, charged_at)
