"""A listening socket in operation: accepts sessions, switches to new settings, stops, drains.

The caller creates the socket, before privileges are dropped; workers share it. A session starts with the current
context and keeps it.
"""

import asyncio
import contextlib
import logging
import socket
from typing import Any

from relay.model.peer import Peer
from relay.smtp.server import handshake, texts
from relay.smtp.server.connections import Connections
from relay.smtp.server.context import ServerContext
from relay.smtp.server.protocol import RelaySMTP
from relay.smtp.server.proxy import client_address, read_proxy

__all__ = ["Connections", "Server", "ServerContext", "drain", "serve"]

log = logging.getLogger(__name__)

_BACKLOG = 1024


class Server:
    """One active listener."""

    def __init__(self, sock: socket.socket, context: ServerContext) -> None:
        self._sock = sock
        self.context = context
        """Replace it to change the settings of future sessions."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start to accept connections."""
        loop = asyncio.get_running_loop()
        self._sock.setblocking(False)
        listener = self.context.listener
        if listener.proxy_protocol or listener.tls == "implicit":
            self._sock.listen(_BACKLOG)
            self._track(loop.create_task(self._accept(loop)))
            return
        self._server = await loop.create_server(lambda: RelaySMTP(self.context), sock=self._sock, backlog=_BACKLOG)

    def stop(self) -> None:
        """Stop accepting connections; existing sessions continue."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._server is None:
            self._sock.close()

    async def stopped(self) -> None:
        """Wait until all tasks that accept and set up connections have ended."""
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections that need a PROXY header or implicit TLS before their session.

        They count towards the caps from the start. `create_server` is not used because it would perform handshakes
        before the caps are checked, and cannot read a PROXY header before the handshake.
        """
        while True:
            try:
                sock, name = await loop.sock_accept(self._sock)
            except OSError as error:
                # Most likely the process is out of file descriptors, so wait until some connections have ended.
                log.warning("cannot accept on %s: %s", self.context.listener.address, error)
                await asyncio.sleep(0.5)
                continue
            protocol = RelaySMTP(self.context)
            if protocol.reserve(None if self.context.listener.proxy_protocol else str(name[0])):
                self._track(loop.create_task(self._begin(loop, sock, name, protocol, self.context)))
            else:
                self._turn_away(sock)

    async def _begin(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        name: Any,
        protocol: RelaySMTP,
        context: ServerContext,
    ) -> None:
        """Read the PROXY header, perform the TLS handshake, start the session. `name`: the socket's peer address."""
        implicit = context.listener.tls == "implicit"
        observed = handshake.observe() if implicit else None
        try:
            if context.listener.proxy_protocol:
                protocol.proxy = await read_proxy(loop, sock, context.handshake_timeout)
                if protocol.proxy is None:
                    return
            await loop.connect_accepted_socket(
                lambda: protocol,
                sock,
                ssl=context.tls if implicit else None,
                ssl_handshake_timeout=context.handshake_timeout if implicit else None,
            )
            if observed is not None:
                observed.succeeded()
        except (TimeoutError, OSError) as error:
            if observed is not None and not protocol.connected and not handshake.never_began(error, observed):
                address, port, _ = client_address(name, protocol.proxy)
                peer = Peer(address, port, context.listener.address)
                context.handler.handshake_failed(peer, handshake.failure(error, observed, context.handshake_timeout))
        finally:
            if not protocol.connected:
                protocol.release()
                sock.close()

    def _turn_away(self, sock: socket.socket) -> None:
        """Refuse a connection before anything was read from it."""
        if self.context.listener.tls != "implicit":  # a client that expects TLS cannot read plaintext
            with contextlib.suppress(OSError):
                sock.send(texts.TOO_MANY_CONNECTIONS.wire)
        sock.close()

    def _track(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def serve(sock: socket.socket, context: ServerContext) -> Server:
    """Start to accept sessions with `context` on a bound socket."""
    server = Server(sock, context)
    await server.start()
    return server


async def drain(connections: Connections, seconds: float) -> int:
    """End all sessions: idle ones at once, the others when their transaction ends.

    Sessions still open after `seconds` are aborted. Returns the number of aborted sessions. Stop the servers first.
    """
    for connection in list(connections.open):
        connection.shut_down()
    if connections.open:
        emptied = asyncio.Event()
        connections.on_empty = emptied.set
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(emptied.wait(), seconds)
        connections.on_empty = None
    left = list(connections.open)
    for connection in left:
        connection.abort()
    return len(left)
