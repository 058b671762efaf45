"""The asynchronous shell of a session: transport, timers, TLS; all protocol is the engine's.

The only module that knows aiosmtpd's class: `RelaySMTP` is one of its `SMTP` objects, so what is written for aiosmtpd
finds its types, but nothing of its command loop runs and its constructor (148 µs: it inspects itself for hooks) is
passed over. `tests/smtp_server/test_server_aiosmtpd.py` notices when a new release needs attention here.
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
"""Octets that may wait while the session is stopped, before reading stops too."""
_LARGE: Final = 1 << 15
"""Octets in one piece that are worked on at once: of a large message there should be little in memory."""
_LINGER: Final = 3.0
"""Seconds in which a client that is still sending may take our last reply; closing at once would reset it away."""

_TAKE: Final = 30.0
"""Seconds in which a client must have taken its replies when its session is over: one that reads nothing would keep
the connection for ever."""


class RelaySMTP(SMTP):
    """One connection."""

    def __init__(self, context: ServerContext) -> None:
        # Not super().__init__(): see the module's docstring.
        self._context = context
        self.proxy: ProxyData | None = None
        """What the PROXY header said; set before the connection is made."""
        self._engine: Engine | None = None
        self._wire: asyncio.Transport | None = None
        self._client = ""
        self._blocked = False
        self._reading = True
        self._writing = False
        """Replies wait for the end of the round."""
        self._scheduled = False
        self._eof = False
        self._lingering = False
        self._octets = -1
        """Octets received; negative before there is a connection."""
        self._timer: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._observed: handshake.Handshake | None = None
        self._before_tls = 0
        """Commands completed when TLS began."""

    # -- before the session: the PROXY header, implicit TLS ------------------------------------------------------------

    def reserve(self, client: str | None) -> bool:
        """Count a connection that is still on its way to a session (None: by whom is not known yet)."""
        limits = self._context.limits
        self._client = "" if client is None else client_of(client)
        if client is not None and self._context.too_often(client):
            return False
        most = self._context.places(client)
        return self._context.connections.add(self, self._client, most, limits.connections_per_address)

    def release(self) -> None:
        """It did not get there; without effect once there is a session."""
        if self._engine is None:
            self._context.connections.remove(self, self._client)

    @property
    def connected(self) -> bool:
        """A transport has been attached."""
        return self._octets >= 0

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected: count it, ask the handler, greet."""
        # uvloop's transports are no subclasses of asyncio.Transport, they only behave so.
        wire = cast("asyncio.Transport", transport)
        context = self._context
        self.loop = asyncio.get_running_loop()
        self._wire = wire
        self._octets = 0
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
        """Octets arrived."""
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
            # uvloop reads 32 times before it lets anybody else run.
            self._set_reading(wanted=False)

    def eof_received(self) -> bool:
        """The client sends no more. What it sent is still answered, where the transport can be kept half open."""
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
                # A message that came whole is taken, even though nobody waits for the answer any more.
                self.take_turn()
            if self._engine is not None:
                failure = handshake.abandoned(self._state, self._before_tls, exc)
                if failure is not None:
                    self._state.handler.handshake_failed(self._state.peer, failure)
        finally:
            self._end()

    def pause_writing(self) -> None:
        """The client does not take our replies: run and read nothing until it does."""
        self._blocked = True
        self._set_reading(wanted=False)

    def resume_writing(self) -> None:
        """The client caught up."""
        self._blocked = False
        self._schedule()

    # -- what the counts ask (connections.Open) ------------------------------------------------------------------------

    def shut_down(self) -> None:
        """End when the running transaction has ended."""
        if self._engine is not None and not self._lingering:
            self._engine.drain()
            # A client that waits for nothing sends nothing: no need to linger.
            self._flush(linger=False)

    def abort(self) -> None:
        """End now."""
        if self._wire is not None:
            self._wire.abort()
        self._end()

    def hurry(self) -> None:
        """Look at the timers now."""
        if self._timer is not None and not self._lingering:
            self._timer.cancel()
            self._tick()

    # -- running -------------------------------------------------------------------------------------------------------

    def take_turn(self) -> None:
        """Let the engine work on what is here, write its replies, note the time."""
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
        # Between the chunks of a message too: else each chunk would begin the measuring of its rate anew.
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
        """See that the replies gathered are written, and follow the session where it went."""
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
        """Write the replies gathered, in one piece."""
        self._writing = False
        if self._engine is None or self._wire is None:
            return
        out = self._state.out
        if out:
            self._wire.write(out[0] if len(out) == 1 else b"".join(out))
            out.clear()

    def _schedule(self) -> None:
        """Run when others had their turn."""
        if not self._scheduled and self._engine is not None:
            self._scheduled = True
            self._context.rounds.arrived(self)

    def _woken(self) -> None:
        """The handler has decided."""
        if self._engine is None or self._lingering:
            return
        self._timers.active_at = self.loop.time()
        self._flush()
        if self._pending():
            self.take_turn()
        elif self._state.draining:
            self.shut_down()

    def _pending(self) -> bool:
        """There is something to go on with."""
        return self._engine is not None and (self._engine.waiting > 0 or self._eof or not self._reading)

    def _may_read(self, engine: Engine) -> bool:
        """Neither our side nor the client's is behind, and no handshake has taken the connection over."""
        return not self._blocked and engine.waiting < _MAX_WAITING and self._state.phase is not Phase.TLS

    def _set_reading(self, *, wanted: bool) -> None:
        """Read, or let the client wait."""
        if wanted is self._reading or self._wire is None or self._wire.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._wire.resume_reading()
        else:
            self._wire.pause_reading()

    # -- timers --------------------------------------------------------------------------------------------------------

    def _arm(self, when: Canned | float) -> None:
        """Look again then."""
        if isinstance(when, float):
            self._timer = self.loop.call_at(when, self._tick)

    def _tick(self) -> None:
        """The timer fired: see whether the client is late."""
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
        """Shake hands. Reading stops before another octet can arrive in plaintext (CVE-2011-0411)."""
        self._set_reading(wanted=False)
        self._handshake = self.loop.create_task(self._shake_hands())

    async def _shake_hands(self) -> None:
        """Upgrade the transport; a client that cannot gets nothing in plaintext any more."""
        context, transport = self._context, self._wire
        assert context.tls is not None, "TLS is offered only with a certificate"
        if transport is None or self._engine is None or self._engine.waiting:
            # Plaintext that would be run as if it had come through TLS: none can come from here on, and what comes
            # through TLS may lie in the engine before `start_tls` returns, so this is the place to look.
            self.abort()
            return
        session = self._state
        secured = await handshake.upgrade(transport, self, context.tls, self._observed, context.handshake_timeout)
        if isinstance(secured, TlsFailure):
            if not session.draining:  # else it may be we who ended the connection
                session.handler.handshake_failed(session.peer, secured)
            self.abort()
            return
        if self._wire is None:  # the connection was lost meanwhile
            secured.abort()
            return
        self._wire = secured
        self._reading = True
        self._blocked = False  # said of the plain transport, which now answers to the TLS layer
        self._before_tls = session.commands
        session.secured(handshake.describe(secured) or "TLS")
        self._timers.active_at = self.loop.time()
        self.take_turn()

    # -- the end -------------------------------------------------------------------------------------------------------

    def _turn_away(self, canned: Canned) -> None:
        """Refuse a connection before it is a session."""
        assert self._wire is not None, "only a connection can be refused"
        self._wire.write(canned.wire)
        self._wire.close()

    def _close(self, *, linger: bool = True) -> None:
        """Close, giving a client that is still sending the chance to take our last reply."""
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
        """Forget everything; also called where a failed handshake ends a connection without telling."""
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
    """Nobody is connected any more."""
