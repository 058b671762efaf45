"""An SMTP client that sends just the octets it is told to and waits for each reply; and a listener to point it at."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from relay.smtp.server.connections import Connections
from relay.smtp.server.context import ServerContext
from relay.smtp.server.listen import Server, drain, serve
from relay_config.schema import Limits, Listener
from tests.support.remembering_handler import RememberingHandler

HANG = 20.0
"""Seconds after which a test that waits for the server has hung."""


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next whole reply, its lines joined by LF without their CRLF; empty when the server closed instead."""
        lines = []
        while True:
            line = await asyncio.wait_for(self.reader.readline(), HANG)
            if not line:
                return "\n".join(lines)
            assert line.endswith(b"\r\n"), line
            lines.append(line[:-2].decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    async def say(self, octets: bytes | str) -> str:
        """Send and wait for the reply; text gets a CRLF."""
        self.send(octets.encode() + b"\r\n" if isinstance(octets, str) else octets)
        return await self.reply()

    async def code(self, octets: bytes | str) -> int:
        """Send and wait for the reply; just its code, 0 when the server closed instead."""
        reply = await self.say(octets)
        return int(reply[:3]) if reply else 0

    async def rest(self) -> str:
        """All that comes until the server closes."""
        try:
            return (await asyncio.wait_for(self.reader.read(), HANG)).decode()
        except ConnectionError:
            return ""

    async def envelope(self, ehlo: str = "EHLO c.test") -> None:
        """EHLO, MAIL, RCPT and DATA up to 354."""
        for line in (ehlo, "MAIL FROM:<s@ext.test>", "RCPT TO:<user@local.test>"):
            assert (await self.code(line)) == 250
        assert (await self.code("DATA")) == 354

    async def starttls(self, context: ssl.SSLContext) -> None:
        """Shake hands (after 220)."""
        await self.writer.start_tls(context, server_hostname="mx.test")

    async def close(self) -> None:
        self.writer.close()
        try:
            await asyncio.wait_for(self.writer.wait_closed(), HANG)
        except (ConnectionError, ssl.SSLError):
            return


class Listening:
    """A server on loopback with a handler that remembers."""

    def __init__(self, server: Server, handler: RememberingHandler, port: int) -> None:
        self.server = server
        self.handler = handler
        self.port = port
        self.clients: list[RawClient] = []

    async def connect(self, *, greeting: bool = True, **options: Any) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20, **options)
        client = RawClient(reader, writer)
        self.clients.append(client)
        if greeting:
            assert (await client.reply()).startswith("220 ")
        return client


@asynccontextmanager
async def listening(
    handler: RememberingHandler | None = None,
    *,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
    auth: str = "off",
    mode: str | None = None,
    plaintext_auth: bool = False,
    proxy_protocol: bool = False,
    **context: Any,
) -> AsyncIterator[Listening]:
    """Serve until the block ends."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listener = Listener(
        address=f"127.0.0.1:{port}",
        tls=mode or ("starttls" if tls else "none"),
        auth=auth,
        plaintext_auth=plaintext_auth,
        proxy_protocol=proxy_protocol,
    )
    handler = handler or RememberingHandler()
    made = ServerContext(
        "mx.test", handler, listener, limits=limits or Limits(), tls=tls, connections=Connections(), **context
    )
    found = Listening(await serve(sock, made), handler, port)
    try:
        yield found
    finally:
        found.server.stop()
        await found.server.stopped()
        for client in found.clients:
            await client.close()
        await drain(made.connections, 0.5)
        assert not made.connections.open
        assert len(handler.opened) == len(handler.closed), "every session ends"
