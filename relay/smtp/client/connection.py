"""A connection to a peer that is ready for mail: the asynchronous shell around `Transaction`.

Driven by callbacks: one future a transaction, one lazily re-armed timer a connection, no task a command. `connect`
makes these; a lane keeps them. Nothing a peer does raises anything but `SessionError` out of `send`.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from relay.smtp.client.content import BareNewlineError, Stuffer, stuff
from relay.smtp.client.deadline import Deadline
from relay.smtp.client.envelope import Envelope, plan
from relay.smtp.client.exchange import Exchange, never_answered
from relay.smtp.client.features import Features
from relay.smtp.client.model import Outgoing, Result, SessionError, Stage, Timeouts
from relay.smtp.client.replies import ReplyError, ReplyReader
from relay.smtp.client.transaction import ViolationError
from relay.smtp.reply import Reply

_BLOCK = 1 << 18
_NOISE = 4
"""Replies beyond those awaited that are still read, to tell a farewell from a flood."""
_FOLLOWER_WAITS = 5.0
"""Seconds that a transaction's end may take before the one behind it is given to another connection."""
_QUIT = b"QUIT\r\n"
_BARE = "the message has a bare CR or LF"


class Connection(asyncio.Protocol):
    """One session after its EHLO. Carries one transaction at a time, and maybe the commands of the next.

    With PIPELINING the next MAIL, RCPT and DATA may go in one write with a message's content (RFC 2920 §3.1). `follow`
    is asked for them just then; each transaction that it gives must be handed to `send` after the one before, in order.
    """

    __slots__ = (
        "_begun",
        "_deadline",
        "_dirty",
        "_exchange",
        "_following",
        "_gone",
        "_loop",
        "_paused",
        "_reader",
        "_resume",
        "_started",
        "_timeouts",
        "_transport",
        "closed",
        "features",
        "follow",
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
        self._exchange: Exchange | None = None
        self._following: Exchange | None = None
        """The next one: its commands are on the wire while the current one waits for the reply to its end."""
        self._begun: deque[Exchange] = deque()
        """Those given by `follow` and not yet handed to `send`."""
        self._resume: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._paused = False
        self._dirty = False
        self._started = 0.0
        self._deadline = Deadline(self._ring)
        self.features = features
        self.remote = remote
        """`host[address]:port`."""
        self.tls = tls
        """Protocol version and cipher; None in plaintext."""
        self.closed = False
        """The peer hung up, or said what nobody asked for, or we closed."""
        self.on_close: Callable[[], None] | None = None
        """Called once when it closes, however."""
        self.follow: Callable[[], Outgoing | None] | None = None
        """Gives the next transaction with its message in memory, if there is one; must not raise."""
        self.transactions = 0
        """Transactions begun."""

    @property
    def usable(self) -> bool:
        """`send` may be called with a new transaction."""
        return not self.closed and self._exchange is None

    async def send(self, outgoing: Outgoing) -> Result:
        """Make one transaction. Raises `SessionError` when it broke before every recipient had a reply."""
        if self._begun:
            exchange = self._begun.popleft()
            assert exchange.outgoing is outgoing, "what `follow` gave comes next"
        else:
            envelope = plan(outgoing, self.features)
            if not envelope.rcpts:
                return self._result([reply for reply in envelope.replies if reply is not None])
            exchange = self._start(outgoing, envelope)
        transaction = exchange.transaction
        try:
            await exchange.waiter
            if transaction.content_due:
                await self._stream(exchange)
        except BaseException:
            self.abort()  # also when cancelled: what the peer makes of half a transaction is unknown
            raise
        finally:
            if self._exchange is exchange:
                self._exchange = None
                self._dirty = transaction.dirty
        if transaction.closing:
            self.abort()
        return self._result(transaction.final())

    async def quit(self) -> None:
        """Say goodbye and close; takes `Timeouts.quit` at most and never raises."""
        if self.usable:
            self._transport.write(_QUIT)
            self._close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timeouts.quit):
                    await asyncio.shield(self._gone)
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._close()
        self._transport.abort()

    def _result(self, replies: list[Reply]) -> Result:
        most = self.features.transactions
        reusable = not self.closed and (most is None or self.transactions < most)
        return Result(replies, reusable, self.features.dsn, self.remote, self.tls)

    # -- one after the other ------------------------------------------------------------------------------------------

    def _start(self, outgoing: Outgoing, envelope: Envelope) -> Exchange:
        """Write a transaction's first commands on a connection that has none."""
        assert self._exchange is None, "one transaction at a time"
        if self.closed:
            raise never_answered(self.remote)
        exchange = self._exchange = Exchange(outgoing, envelope, pipelining=self.features.pipelining, reset=self._dirty)
        self.transactions += 1
        self._started = self._loop.time()
        self._arm(self._timeouts.command)
        self._transport.write(exchange.transaction.begin())
        return exchange

    def _start_following(self) -> bytes:
        """The next transaction's commands, to be written behind the content of this one."""
        features = self.features
        limits = (features.transactions, features.rcpt_max, features.rcpt_domain_max)
        # Not in a connection's first: there a peer that says one word too many after a message gives itself away.
        if self.follow is None or not features.pipelining or self.transactions < 2 or limits != (None, None, None):
            return b""
        outgoing = self.follow()
        if outgoing is None:
            return b""
        envelope = plan(outgoing, self.features)
        exchange = Exchange(outgoing, envelope, pipelining=True, follows=True)
        self._begun.append(exchange)
        if not envelope.rcpts:
            exchange.wake()  # all are refused by us, nothing is to be asked
            return b""
        self.transactions += 1
        self._following = exchange
        return exchange.transaction.begin()

    def _pass_on(self, ended: Exchange) -> bool:
        """`ended` is done; whether the one behind it is current now. It is not where the connection ends."""
        following = self._following
        if following is None or ended.transaction.closing:
            return False
        ended.wake()
        self._exchange, self._following = following, None
        self._started = self._loop.time()
        return True

    # -- the message --------------------------------------------------------------------------------------------------

    def _start_content(self, exchange: Exchange) -> None:
        """A message in memory goes out in one write, within the callback that brought the 354; else `send` is woken."""
        if exchange.outgoing.open_file is not None:
            exchange.wake_to_stream()
            return
        try:
            content = stuff(exchange.outgoing.head)
        except BareNewlineError:
            self._fail(self._error("local", _BARE))
            return
        exchange.transaction.content_written()
        self._transport.write(content + self._start_following())

    async def _stream(self, exchange: Exchange) -> None:
        """A large message, as fast as the peer takes it, read off the loop. Ends early when the waiter is done."""
        waiter, outgoing = exchange.waiter, exchange.outgoing
        assert outgoing.open_file is not None, "only large messages are streamed"
        stuffer = Stuffer()
        try:
            with await asyncio.to_thread(outgoing.open_file) as file:
                block, left = outgoing.head, outgoing.size - len(outgoing.head)
                checked = False
                while block and not waiter.done():
                    await self._write_block(stuffer.feed(block, checked=checked))
                    block = await asyncio.to_thread(file.read, _BLOCK)
                    # The file proves by its checksum to hold what was accepted; damage shows before its last block.
                    checked = outgoing.file_checked
                    left -= len(block)
            end = stuffer.end()
        except BareNewlineError:
            raise self._error("local", _BARE) from None
        except Exception as error:  # whatever the opener raises: a fault of ours, not of the peer's
            raise self._error("local", f"the stored message can't be read: {type(error).__name__}") from error
        if not waiter.done():
            if left:
                raise self._error("local", "the stored message is not of the size noted with it")
            self._transport.write(end)
            exchange.transaction.content_written()
            self._arm(self._timeouts.end)
        await waiter

    async def _write_block(self, block: bytes) -> None:
        """Write, and wait until the transport wants more."""
        self._arm(self._timeouts.block)
        self._transport.write(block)
        if self._paused and not self.closed:
            self._resume = self._loop.create_future()
            await self._resume

    # -- what the loop calls ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Replies, or what looks like them."""
        exchange = self._exchange
        if exchange is None or exchange.transaction.done:
            self._unasked()
            return
        try:
            extra = self._take(data, exchange)
        except (ReplyError, ViolationError) as error:
            self._fail(self._error("protocol", str(error)))
        else:
            if extra is not None:
                self._finish(extra)

    def _take(self, data: bytes, exchange: Exchange) -> list[Reply] | None:
        """Hand the replies in `data` to their transactions. When the last is done: those left over; before: None."""
        behind = self._following
        expected = exchange.transaction.expected + (behind.transaction.expected if behind is not None else 0)
        replies = self._reader.feed(data, expected + _NOISE)
        for count, reply in enumerate(replies, 1):
            transaction = exchange.transaction
            out = transaction.receive(reply)
            if transaction.done:
                if not self._pass_on(exchange):
                    return replies[count:]
                assert behind is not None, "something was passed on to"
                exchange, behind = behind, None
                continue
            if out is None and not transaction.content_due:
                continue
            if count < len(replies) or self._reader.pending:
                raise ViolationError("a reply came before its command")
            if out is not None:
                self._transport.write(out)
            else:
                self._start_content(exchange)
        if self._reader.broken is not None:
            raise self._reader.broken
        if replies and exchange.transaction.stage is not Stage.CONTENT:
            # Whole replies only: octets that dribble in don't extend the wait.
            self._arm(self._patience(exchange.transaction.stage))
        return None

    def eof_received(self) -> bool:
        """The peer will say nothing more; so there is nothing more to do."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        exchange = self._exchange
        self._close()
        if exchange is not None and not exchange.transaction.done:
            if exchange.transaction.settled:
                exchange.transaction.closing = exchange.transaction.done = True
                self._wake()
            else:
                self._fail(self._error("closed", _why(exc)))
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        """The peer reads slower than we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._paused = False
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _finish(self, extra: list[Reply]) -> None:
        """The last reply was read; `extra` came with it unasked."""
        assert self._exchange is not None, "a reply belongs to a transaction"
        transaction = self._exchange.transaction
        if transaction.farewell is not None:
            self._fail(self._error("reply", str(transaction.farewell), transaction.farewell))
            return
        if self._exchange.follows and transaction.refused_at_data:
            # Rare, and just how it looks when the reply to the message ahead was two: ask again where none can slip.
            self._fail(never_answered(self.remote))
            return
        if extra or self._reader.pending:
            # After the final dot the first reply counts, what follows is noise (often a 421). Before it, one reply too
            # many means that replies and commands may have slipped: no verdict can be trusted.
            expected = transaction.stage is Stage.END or transaction.closing or (extra and extra[0].code == 421)
            if not expected:
                self._fail(self._error("protocol", "more replies than commands"))
                return
            transaction.closing = True
        self._wake()

    def _wake(self) -> None:
        if self._exchange is not None:
            self._exchange.wake()
        if self._resume is not None and not self._resume.done():
            self._resume.set_result(None)

    def _fail(self, error: SessionError) -> None:
        """End the transaction with an error, and the connection with it."""
        if self._exchange is not None:
            self._exchange.fail(error)
        self._wake()
        self.abort()

    def _error(self, kind: str, text: str, reply: Reply | None = None) -> SessionError:
        assert self._exchange is not None, "errors of this kind belong to a transaction"
        return self._exchange.error(kind, text, reply, self.remote, reused=self.transactions > 1)

    def _unasked(self) -> None:
        """Octets while nothing was asked: a notice of closing, noise, or an attempt to be ahead of us."""
        if self.closed:
            self._transport.close()  # the reply to QUIT
        else:
            self.abort()

    def _close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._deadline.off()
        self._forgo_following()
        if self.on_close is not None:
            self.on_close()

    def _forgo_following(self) -> None:
        """Nothing of its message was sent, so another connection may take it at once."""
        following, self._following = self._following, None
        if following is not None:
            following.fail(never_answered(self.remote))

    # -- time ---------------------------------------------------------------------------------------------------------

    def _patience(self, stage: Stage) -> float:
        timeouts = self._timeouts
        if stage is Stage.END:
            return timeouts.end if self._following is None else min(timeouts.end, _FOLLOWER_WAITS)
        return timeouts.data if stage is Stage.DATA else timeouts.command

    def _arm(self, seconds: float) -> None:
        at = self._loop.time() + seconds
        exchange = self._exchange
        if exchange is not None and exchange.transaction.stage not in (Stage.CONTENT, Stage.END):
            at = min(at, self._started + self._timeouts.envelope)
        self._deadline.set(at)

    def _ring(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.transaction.done:
            return
        stage = exchange.transaction.stage
        if self._following is not None and self._timeouts.end > _FOLLOWER_WAITS:
            # The peer has the next one's commands, so this connection can carry nothing more after this one.
            self._forgo_following()
            exchange.transaction.closing = True
            self._arm(self._timeouts.end - _FOLLOWER_WAITS)
            return
        self._fail(self._error("timeout", f"no reply in time to {stage.value}"))


def _why(exc: Exception | None) -> str:
    known = isinstance(exc, OSError) and exc.strerror
    return f"connection lost: {known}" if known else "peer closed the connection"
