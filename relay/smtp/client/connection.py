"""A connection to a peer that is ready for mail: the asynchronous part around `Transaction`.

It is driven by callbacks, with one future per transaction, one lazily re-armed timer per connection, and no task per
command. `connect` creates connections and a lane keeps them. `send` raises only `SessionError`, whatever the peer does.
"""

import asyncio
import contextlib
from collections.abc import Callable

from relay.smtp.client.content import BareNewlineError, Stuffer, stuff
from relay.smtp.client.envelope import Envelope, plan
from relay.smtp.client.features import Features
from relay.smtp.client.final import FinalReader, plain
from relay.smtp.client.model import Outgoing, Result, SessionError, Stage, Timeouts, why_lost
from relay.smtp.client.replies import ReplyError, ReplyReader
from relay.smtp.client.transaction import Transaction, ViolationError
from relay.smtp.reply import Reply

_BLOCK = 1 << 18
_NOISE = 4
"""Unexpected replies that are still read, so that a final 421 can be distinguished from a flood of replies."""
_QUIT = b"QUIT\r\n"
_BARE = "the message has a bare CR or LF"


class Connection(asyncio.Protocol):
    """One SMTP session after its EHLO. It carries one transaction at a time."""

    __slots__ = (
        "_deadline",
        "_dirty",
        "_end_by",
        "_final",
        "_gone",
        "_loop",
        "_outgoing",
        "_paused",
        "_reader",
        "_resume",
        "_started",
        "_timeouts",
        "_timer",
        "_timer_at",
        "_transaction",
        "_transport",
        "_waiter",
        "closed",
        "features",
        "on_close",
        "remote",
        "tls",
        "transactions",
    )

    def __init__(
        self, transport: asyncio.Transport, features: Features, *, remote: str, tls: str | None, timeouts: Timeouts
    ) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        self._reader = ReplyReader()
        self._final: FinalReader | None = None
        """Reads the reply to the message's end where that is not one plain line."""
        self._end_by = 0.0
        """When the wait for that reply ends, whatever comes meanwhile."""
        self._transaction: Transaction | None = None
        self._outgoing: Outgoing | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._resume: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._paused = False
        self._dirty = False
        self._deadline = 0.0
        self._started = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.features = features
        self.remote = remote
        """`host[address]:port`."""
        self.tls = tls
        """Protocol version and cipher; None in plaintext."""
        self.closed = False
        """The peer closed the connection or sent unsolicited data, or we closed it."""
        self.on_close: Callable[[], None] | None = None
        """Called once when the connection closes, for whatever reason."""
        self.transactions = 0
        """Number of transactions started."""

    @property
    def stage(self) -> Stage | None:
        """The stage of the current transaction; None: there is none."""
        return None if self._transaction is None else self._transaction.stage

    @property
    def usable(self) -> bool:
        """Whether `send` may be called."""
        return not self.closed and self._transaction is None

    async def send(self, outgoing: Outgoing) -> Result:
        """Make one transaction. Raises `SessionError` if it broke before every recipient had a reply."""
        assert self._transaction is None, "one transaction at a time"
        envelope = plan(outgoing, self.features)
        if not envelope.rcpts:
            return self._result([reply for reply in envelope.replies if reply is not None], envelope)
        if self.closed:
            raise SessionError(
                Stage.MAIL, "closed", "connection was closed", remote=self.remote, fresh_connection_helps=True
            )
        transaction = Transaction(envelope, pipelining=self.features.pipelining, reset=self._dirty)
        self._transaction, self._outgoing = transaction, outgoing
        self.transactions += 1
        waiter = self._waiter = self._loop.create_future()
        self._started = self._loop.time()
        self._arm(self._timeouts.command)
        try:
            self._transport.write(transaction.begin())
            await waiter
            if transaction.content_due:
                await self._stream(transaction, outgoing)
        except BaseException:
            self.abort()  # also on cancellation: the state of the peer is unknown in mid-transaction
            raise
        finally:
            self._transaction = self._outgoing = self._waiter = None
        self._dirty = transaction.dirty
        if transaction.closing:
            self.abort()
        return self._result(transaction.final(), envelope)

    async def quit(self) -> None:
        """Send QUIT and close. Takes at most `Timeouts.quit` seconds and never raises."""
        if self.usable:
            self._transport.write(_QUIT)
            self._close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeouts.quit):
                    await asyncio.shield(self._gone)
        self.abort()

    def abort(self) -> None:
        """Close the connection at once, without QUIT."""
        self._close()
        self._transport.abort()

    def _result(self, replies: list[Reply], envelope: Envelope) -> Result:
        most = self.features.transactions
        reusable = self.usable and (most is None or self.transactions < most)
        return Result(replies, reusable, self.features.dsn, self.remote, self.tls, envelope.unasked)

    # -- the message --------------------------------------------------------------------------------------------------

    def _start_content(self, transaction: Transaction, outgoing: Outgoing) -> None:
        """Write a message in memory within the callback that got the 354; for a file, wake `send` to stream it."""
        if outgoing.open_file is None:
            try:
                self._transport.write(stuff(outgoing.head))
            except BareNewlineError:
                self._fail(self._error("local", _BARE))
            else:
                transaction.content_written()
            return
        waiter, self._waiter = self._waiter, self._loop.create_future()
        assert waiter is not None, "a reply is read only while its transaction waits"
        waiter.set_result(None)

    async def _stream(self, transaction: Transaction, outgoing: Outgoing) -> None:
        """Stream a large message, reading its file in a thread. Ends early if the transaction has ended (`_waiter`)."""
        waiter, open_file = self._waiter, outgoing.open_file
        assert waiter is not None and open_file is not None, "only large messages are streamed"  # noqa: PT018 - one fact
        stuffer = Stuffer()
        try:
            with await asyncio.to_thread(open_file) as file:
                block, left = outgoing.head, outgoing.size - len(outgoing.head)
                checked = False
                while block and not waiter.done():
                    await self._write_block(stuffer.feed(block, checked=checked))
                    block = await asyncio.to_thread(file.read, _BLOCK)
                    # The file verifies its checksum before it returns the last block, so damage is noticed in time.
                    checked = outgoing.file_checked
                    left -= len(block)
            end = stuffer.end()
        except BareNewlineError:
            raise self._error("local", _BARE) from None
        except Exception as error:  # whatever the opener raises is a local fault, not the peer's
            raise self._error("local", f"the stored message can't be read: {type(error).__name__}") from error
        if not waiter.done():
            if left:
                raise self._error("local", "the stored message is not of the size noted with it")
            if self._reader.pending:
                raise self._error("protocol", "a reply before the message's end")
            self._transport.write(end)
            transaction.content_written()
            self._arm(self._timeouts.end)
        await waiter

    async def _write_block(self, block: bytes) -> None:
        """Write a block and wait until the transport accepts more data."""
        self._arm(self._timeouts.block)
        self._transport.write(block)
        if self._paused and not self.closed:
            self._resume = self._loop.create_future()
            await self._resume

    # -- what the loop calls ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Process received data: replies, or unsolicited data."""
        transaction, outgoing = self._transaction, self._outgoing
        if transaction is None or outgoing is None or transaction.done:
            self._unasked()
            return
        try:
            if transaction.stage is Stage.END:
                self._take_final(data, transaction)
                return
            extra = self._take(data, transaction, outgoing)
        except (ReplyError, ViolationError) as error:
            self._fail(self._error("protocol", str(error)))
        else:
            if extra is not None:
                self._finish(transaction, extra)

    def _take(self, data: bytes, transaction: Transaction, outgoing: Outgoing) -> list[Reply] | None:
        """Pass the replies in `data` to the transaction. Returns the surplus replies once it is done, else None."""
        replies = self._reader.feed(data, transaction.expected + _NOISE)
        for count, reply in enumerate(replies, 1):
            out = transaction.receive(reply)
            if transaction.done:
                return replies[count:]
            if out is None and not transaction.content_due:
                continue
            if count < len(replies) or self._reader.pending:
                raise ViolationError("a reply came before its command")
            if out is not None:
                self._transport.write(out)
            else:
                self._start_content(transaction, outgoing)
        if self._reader.broken is not None:
            raise self._reader.broken
        if replies and transaction.stage is not Stage.CONTENT:
            # Only complete replies extend the deadline; single bytes that trickle in do not.
            self._arm(self._patience(transaction.stage))
        return None

    def _take_final(self, data: bytes, transaction: Transaction) -> None:
        """Read the reply to the final dot, which may be malformed (see `final`)."""
        if self._final is None:
            reply = plain(data)
            if reply is not None:
                transaction.receive(reply)
                self._finish(transaction, [])
                return
            self._final, self._end_by = FinalReader(), self._deadline
        reply = self._final.feed(data)
        if reply is not None:
            self._conclude(transaction, reply)
        elif self._final.hopeful:
            self._arm(min(self._timeouts.tail, self._end_by - self._loop.time()))

    def _conclude(self, transaction: Transaction, reply: Reply) -> None:
        """Finish with the reply to the final dot. After a malformed reply the connection is closed."""
        assert self._final is not None, "a reply that was not plain has its reader"
        transaction.receive(reply)
        transaction.closing |= not self._final.clean
        self._final = None
        self._finish(transaction, [])

    def _settled_late(self, transaction: Transaction) -> bool:
        """Finish the transaction, after the last read, if every recipient's outcome is known. Returns whether it is."""
        reply = self._final.best() if self._final is not None else None
        if reply is not None:
            self._conclude(transaction, reply)
        elif transaction.settled:
            transaction.closing = transaction.done = True
            self._wake()
        return transaction.done

    def eof_received(self) -> bool:
        """Close the transport: the peer will send no more replies."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish or fail the current transaction after the connection has ended."""
        transaction = self._transaction
        self._close()
        if transaction is not None and not transaction.done and not self._settled_late(transaction):
            self._fail(self._error("closed", why_lost(exc)))
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        """Stop writing: the write buffer is full."""
        self._paused = True

    def resume_writing(self) -> None:
        """Continue writing: the write buffer has room."""
        self._paused = False
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _finish(self, transaction: Transaction, extra: list[Reply]) -> None:
        """End the transaction after its last reply. `extra` are surplus replies that came with it."""
        if transaction.farewell is not None:
            self._fail(self._error("reply", str(transaction.farewell), transaction.farewell))
            return
        if extra or self._reader.pending:
            # A surplus reply means that replies may not match their commands, so no reply can be trusted.
            if not transaction.closing and not (extra and extra[0].code == 421):
                self._fail(self._error("protocol", "more replies than commands"))
                return
            transaction.closing = True
        self._wake()

    def _wake(self) -> None:
        for future in (self._waiter, self._resume):
            if future is not None and not future.done():
                future.set_result(None)

    def _fail(self, error: SessionError) -> None:
        """End the transaction with an error, and the connection with it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
            self._waiter.exception()  # mark as retrieved: `send` may already be raising its own error
        self._wake()
        self.abort()

    def _error(self, kind: str, text: str, reply: Reply | None = None) -> SessionError:
        transaction = self._transaction
        assert transaction is not None, "errors of this kind belong to a transaction"
        # After a protocol error, replies may not match their commands, so no single reply can be trusted.
        partial = transaction.known() if kind != "protocol" else list[Reply | None]([None] * len(transaction.replies))
        first = transaction.stage is Stage.MAIL and not (kind == "closed" and transaction.answered)
        return SessionError(
            transaction.stage,
            kind,
            text,
            reply,
            self.remote,
            partial,
            fresh_connection_helps=self.transactions > 1 and first and kind in ("closed", "reply"),
        )

    def _unasked(self) -> None:
        """Close on data outside a transaction: a 421 before closing, garbage, or an attempt to inject replies."""
        if self.closed:
            self._transport.close()  # the reply to QUIT
        else:
            self.abort()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.on_close is not None:
            self.on_close()

    # -- time ---------------------------------------------------------------------------------------------------------

    def _patience(self, stage: Stage) -> float:
        timeouts = self._timeouts
        if stage is Stage.END:
            return timeouts.end
        return timeouts.data if stage is Stage.DATA else timeouts.command

    def _arm(self, seconds: float) -> None:
        """Set the deadline, `seconds` from now.

        The timer is moved only if it would fire too late. Usually this call just sets a float, which is much cheaper
        than a new timer for each reply; `_ring` re-arms a timer that fires too early.
        """
        now = self._loop.time()
        deadline = now + seconds
        transaction = self._transaction
        if transaction is not None and transaction.stage not in (Stage.CONTENT, Stage.END):
            deadline = min(deadline, self._started + self._timeouts.envelope)
        self._deadline = deadline
        if self.closed or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(deadline, self._ring), deadline

    def _ring(self) -> None:
        self._timer = None
        transaction = self._transaction
        if transaction is None or transaction.done:
            return
        left = self._deadline - self._loop.time()
        if left > 0.005:
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._ring)
        elif transaction.stage is not Stage.END or not self._settled_late(transaction):
            self._fail(self._error("timeout", f"no reply in time to {transaction.stage.value}"))
