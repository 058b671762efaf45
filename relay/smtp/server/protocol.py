"""The asynchronous shell of a session: transport, timers, TLS. The engine implements the protocol itself.

This is the only module that depends on aiosmtpd's class. `RelaySMTP` is a subclass, so that code written for aiosmtpd
finds the types it expects. But neither aiosmtpd's command loop nor its constructor (148 µs: it inspects itself for
hooks) runs. `tests/smtp_server/test_server_aiosmtpd.py` fails if a new release requires a change here.
"""

import asyncio
from typing import Final, cast

from aiosmtpd.proxy_protocol import ProxyData
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as AiosmtpdSession

from relay.model.peer import Peer, TlsFailure, client_of
from relay.smtp.server import handshake, texts
from relay.smtp.server.aiosmtpd_view import envelope_view, session_view
from relay.smtp.server.context import ServerContext
from relay.smtp.server.engine import Engine
from relay.smtp.server.proxy import claims_loopback, client_address
from relay.smtp.server.session import Phase, Session
from relay.smtp.server.texts import Canned, encode
from relay.smtp.server.timers import Timers

_MAX_WAITING: Final = 1 << 16
"""Bytes that may be buffered while the session waits; beyond it, reading is paused."""
_LARGE: Final = 1 << 15
"""Bytes from which on a block is processed at once, not in the next round, so that little of it is in memory."""
_LINGER: Final = 3.0
"""Seconds for a client that still sends to read our last reply; closing at once would reset the connection."""
_TAKE: Final = 30.0
"""Seconds for a client to read its replies after the session ended; it could keep the connection open forever."""


class RelaySMTP(SMTP):
    """One connection."""

    def __init__(self, context: ServerContext) -> None:
        # Not super().__init__(): see the module's docstring.
        self._context = context
        self.proxy: ProxyData | None = None
        """The PROXY header; set before the connection is made."""
        self._engine: Engine | None = None
        self._wire: asyncio.Transport | None = None
        self._client = ""
        self._blocked = False
        self._reading = True
        self._writing = False  # replies are waiting for the end of the round
        self._scheduled = False
        self._eof = False
        self._lingering = False
        self._octets = -1
        """Bytes received; negative before there is a connection."""
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._observed: handshake.Handshake | None = None
        self._before_tls = 0
        """Number of commands completed before TLS began."""

    # -- before the session: the PROXY header, implicit TLS ------------------------------------------------------------

    def reserve(self, client: str | None) -> bool:
        """Count a connection before its session starts; False if it must be refused.

        `client` is its address, or None before the PROXY header has been read.
        """
        limits = self._context.limits
        self._client = "" if client is None else client_of(client)
        if client is not None and self._context.too_often(client):
            return False
        most = self._context.places(client)
        return self._context.connections.add(self, self._client, most, limits.connections_per_address)

    def release(self) -> None:
        """Undo `reserve` if no session was started; has no effect once there is a session."""
        if self._engine is None:
            self._context.connections.remove(self, self._client)

    @property
    def connected(self) -> bool:
        """Whether a transport has been attached."""
        return self._octets >= 0

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: count it, ask the handler, send the greeting."""
        # uvloop's transports are not subclasses of asyncio.Transport but have the same interface.
        wire = cast("asyncio.Transport", transport)
        context = self._context
        self.loop = asyncio.get_running_loop()
        self._wire = wire
        self._octets = 0
        # The reservation was made for the socket's peer or for an unknown client. Count again under the final address,
        # which may come from the PROXY header. No other connection of this worker can take the place in between.
        self.release()
        address, port, local = client_address(wire.get_extra_info("peername"), self.proxy)
        counted, self._client = bool(self._client), client_of(address)
        if not counted and self._context.too_often(address):
            self._turn_away(texts.TOO_OFTEN)
            return
        limits, connections = context.limits, context.connections
        if not connections.add(self, self._client, context.places(address), limits.connections_per_address):
            self._turn_away(texts.TOO_MANY_CONNECTIONS)
            return
        now = self.loop.time()
        peer = Peer(address, port, context.listener.address)
        session = Session(context, peer, local=local)
        session.wake = self._woken
        self._state = session
        self._engine = Engine(session)
        self._timers = Timers(limits, now, context.rate_window)
        self._arm(self._timers.check(now, 0))
        if connections.stressed(limits.connections):
            connections.hurry(now)
        reply = context.handler.connected(peer)
        peer.trusted = peer.trusted and not claims_loopback(address, local=local)
        if reply is not None:
            wire.write(encode(reply))
            session.close()
            self._close()
            return
        peer.tls = handshake.describe(wire)
        if session.tls_offered:
            self._observed = handshake.observe()
        wire.write(context.greeting)

    def data_received(self, data: bytes) -> None:
        """Bytes arrived: process a large block now, a small one in the next round."""
        engine = self._engine
        if engine is None or self._lingering:
            return
        self._octets += len(data)
        engine.feed(data)
        if not self._scheduled:
            if len(data) < _LARGE:
                self._schedule()
            else:
                self.take_turn()
        elif not self._may_read(engine):
            # uvloop may read 32 times before it runs other callbacks, so the buffer is also limited here.
            self._set_reading(wanted=False)

    def eof_received(self) -> bool:
        """The client stopped sending. What it sent is still answered if the transport can stay half open (not TLS)."""
        if self._scheduled:
            self.take_turn()
        self._eof = True
        self.send_replies()
        if self._engine is None or self._lingering or self._state.peer.tls is not None:
            return False
        return self._state.busy or self._blocked or self._scheduled

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._wire = None
        try:
            if self._scheduled:
                # A message that arrived completely is accepted, although the client can no longer receive the reply.
                self.take_turn()
            if self._engine is not None:
                failure = handshake.abandoned(self._state, self._before_tls, exc)
                if failure is not None:
                    self._state.handler.handshake_failed(self._state.peer, failure)
        finally:
            self._end()

    def pause_writing(self) -> None:
        """The client does not read our replies: stop processing and reading until it does."""
        self._blocked = True
        self._set_reading(wanted=False)

    def resume_writing(self) -> None:
        """The client has read enough replies: continue."""
        self._blocked = False
        self._schedule()

    # -- what the counts ask (connections.Open) ------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Close the connection when the current transaction has ended."""
        if self._engine is not None and not self._lingering:
            self._engine.drain()
            # An idle client is not sending anything, so lingering is not necessary.
            self._flush(linger=False)

    def abort(self) -> None:
        """Close the connection now."""
        if self._wire is not None:
            self._wire.abort()
        self._end()

    def hurry(self) -> None:
        """Check the timers now."""
        if self._timer is not None and not self._lingering:
            self._timer.cancel()
            self._tick()

    # -- running -------------------------------------------------------------------------------------------------------

    def take_turn(self) -> None:
        """Let the engine process the buffered bytes; then take another turn, pause, resume, or close after EOF."""
        self._scheduled = False
        engine = self._engine
        if engine is None or self._lingering:
            return
        session = self._state
        if self._blocked:
            return
        before = session.commands
        again = engine.pump()
        phase = session.phase
        arriving = phase is Phase.DATA or phase is Phase.CHUNK
        # Also true between the BDAT chunks of a message; otherwise each chunk would restart the rate measurement.
        receiving = arriving or session.content is not None
        timers = self._timers
        if arriving or session.commands != before:
            timers.active_at = self.loop.time()
        if receiving is not timers.receiving:
            timers.receiving = False
            if receiving:
                timers.begin_message(timers.active_at, self._octets)
        self._flush()
        if again and not self._blocked:
            self._schedule()
        if not self._reading or session.busy or again:
            self._set_reading(wanted=self._may_read(engine))
        if self._eof and not (again or session.busy or self._blocked) and not self._lingering:
            self._close(linger=False)

    def _flush(self, *, linger: bool = True) -> None:
        """Schedule the collected replies for writing, and close or start TLS if the session's phase requires it."""
        session = self._state
        phase = session.phase
        if phase is Phase.CLOSED:
            self._close(linger=linger and not session.quit)
        elif phase is Phase.TLS and self._handshake is None:
            self.send_replies()
            self._start_handshake()
        elif session.out and not self._writing:
            self._writing = True
            self._context.rounds.has_replies(self)

    def send_replies(self) -> None:
        """Write the collected replies in one call."""
        self._writing = False
        if self._engine is None or self._wire is None:
            return
        out = self._state.out
        if out:
            self._wire.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _schedule(self) -> None:
        """Take a turn in the next round, so that other clients are served first."""
        if not self._scheduled and self._engine is not None:
            self._scheduled = True
            self._context.rounds.arrived(self)

    def _woken(self) -> None:
        """The handler has decided: write the reply and continue with the buffered input."""
        if self._engine is None or self._lingering:
            return
        self._timers.active_at = self.loop.time()
        self._flush()
        if self._pending():
            self.take_turn()
        elif self._state.draining:
            self.shut_down()

    def _pending(self) -> bool:
        """Whether there is more to process."""
        return self._engine is not None and (self._engine.waiting > 0 or self._eof or not self._reading)

    def _may_read(self, engine: Engine) -> bool:
        """Whether neither side is behind (our buffer, the client's reading) and no TLS handshake is running."""
        return not self._blocked and engine.waiting < _MAX_WAITING and self._state.phase is not Phase.TLS

    def _set_reading(self, *, wanted: bool) -> None:
        """Resume or pause reading."""
        if wanted is self._reading or self._wire is None or self._wire.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._wire.resume_reading()
        else:
            self._wire.pause_reading()

    # -- timers --------------------------------------------------------------------------------------------------------

    def _arm(self, when: Canned | float) -> None:
        """Set the timer, if `when` is a time."""
        if isinstance(when, float):
            self._timer = self.loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """The timer fired: check whether the client is late."""
        session, context = self._state, self._context
        stressed = context.connections.stressed(context.limits.connections)
        busy = session.busy or session.phase is Phase.TLS
        wanted = session.content is not None and session.content.fault is None
        verdict = self._timers.check(self.loop.time(), self._octets, busy=busy, stressed=stressed, wanted=wanted)
        if isinstance(verdict, float):
            self._arm(verdict)
        elif self._blocked:
            self.abort()
        else:
            session.line = ""
            session.close(verdict)
            self._flush()

    # -- TLS -----------------------------------------------------------------------------------------------------------

    def _start_handshake(self) -> None:
        """Start the TLS handshake. Reading is paused before more plaintext can arrive (CVE-2011-0411)."""
        self._set_reading(wanted=False)
        self._handshake = self.loop.create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        """Upgrade the transport. If the handshake fails, abort the connection and send nothing more in plaintext."""
        context, transport = self._context, self._wire
        assert context.tls is not None, "TLS is offered only with a certificate"
        if transport is None or self._engine is None or self._engine.waiting:
            # Plaintext in the engine would be executed as if it had arrived through TLS. The check is here because no
            # plaintext can arrive after this point, and bytes received through TLS may be in the engine before
            # `start_tls` returns.
            self.abort()
            return
        session = self._state
        secured = await handshake.upgrade(transport, self, context.tls, self._observed, context.handshake_timeout)
        if isinstance(secured, TlsFailure):
            if not session.draining:  # when draining, the server itself may have closed the connection
                session.handler.handshake_failed(session.peer, secured)
            self.abort()
            return
        if self._wire is None:  # the connection was lost meanwhile
            secured.abort()
            return
        self._wire = secured
        self._reading = True
        self._blocked = False  # applied to the plain transport, which now reports to the TLS layer
        self._before_tls = session.commands
        session.secured(handshake.describe(secured) or "TLS")
        self._timers.active_at = self.loop.time()
        self.take_turn()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _turn_away(self, canned: Canned) -> None:
        """Refuse a connection before a session starts."""
        assert self._wire is not None, "only a connection can be refused"
        self._wire.write(canned.wire)
        self._wire.close()

    def _close(self, *, linger: bool = True) -> None:
        """Close the connection; with `linger`, a client that is still sending has time to read our last reply."""
        transport = self._wire
        if transport is None or self._lingering:
            return
        self.send_replies()
        self._lingering = True
        if self._timer is not None:
            self._timer.cancel()
        if not linger or self._eof or self._blocked or not transport.can_write_eof():
            transport.close()
            self._timer = self.loop.call_later(_TAKE, self.abort)
            return
        if not transport.is_closing():
            transport.write_eof()
            self._set_reading(wanted=True)
        self._timer = self.loop.call_later(_LINGER, self.abort)

    def _end(self) -> None:
        """Release the session. Also called by `abort`: after a failed handshake the loop may not report the loss."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wire = None
        if self._engine is None:
            return
        self._engine = None
        self._context.connections.remove(self, self._client)
        session = self._state
        session.wake = _nothing
        session.close()
        session.handler.disconnected(session.peer)

    # -- aiosmtpd's view -----------------------------------------------------------------------------------------------

    def aiosmtpd_session(self) -> AiosmtpdSession:
        """The session as aiosmtpd's handlers know it."""
        return session_view(self.loop, self._state.peer, self.proxy)

    def aiosmtpd_envelope(self) -> Envelope:
        """The transaction as aiosmtpd's handlers know it, without content."""
        return envelope_view(self._state.transaction)


def _nothing() -> None:
    """Does nothing; replaces `Session.wake` when the connection has ended."""
