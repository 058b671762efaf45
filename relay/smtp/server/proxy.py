"""The client's address: the peer address of the socket, or the one in a PROXY header (versions 1 and 2).

The header is read directly from the socket, without reading any byte beyond it, so that the transport receives a TLS
handshake that follows it. aiosmtpd parses the grammar.
"""

import asyncio
import socket
from typing import Any

from aiosmtpd.proxy_protocol import V2_CMD, ProxyData, get_proxy

from relay.smtp.server.context import is_loopback

_MAX_V1 = 107
"""Maximum bytes of a version 1 header, including CRLF (PROXY protocol §2.1)."""


class SocketReader:
    """The reader for aiosmtpd's parser; never reads more bytes than requested."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock

    async def read(self, n: int = 1) -> bytes:
        """Read up to `n` bytes; returns empty bytes at the end."""
        return await self._loop.sock_recv(self._sock, n)

    async def readexactly(self, n: int = 1) -> bytes:
        """Read exactly `n` bytes. Raises `ConnectionError` if the connection ends before."""
        found = b""
        while len(found) < n:
            block = await self.read(n - len(found))
            if not block:
                raise ConnectionError("the connection ended within the PROXY header")
            found += block
        return found

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Read up to and including `separator`, byte by byte, because nothing after it may be consumed.

        Raises `ConnectionError` if the header is too long or the connection ends before.
        """
        found = b""
        while not found.endswith(separator):
            if len(found) >= _MAX_V1:
                raise ConnectionError("the PROXY header is too long")
            found += await self.readexactly(1)
        return found


async def read_proxy(loop: asyncio.AbstractEventLoop, sock: socket.socket, timeout: float) -> ProxyData | None:  # noqa: ASYNC109 - the header has its own limit, whoever calls
    """The PROXY header, or None if no valid header arrives within `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            found = await get_proxy(SocketReader(loop, sock))
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return None
    return found if found.valid else None


def claims_loopback(address: str, *, local: bool) -> bool:
    """Whether a client claims a loopback address without being on this machine (`local`: see `client_address`).

    The claim comes from a remote proxy, or from anyone who can reach a listener that expects a proxy. At best it is
    true for another machine, so it must not grant the rights of this machine's own programs, although 127.0.0.0/8 is a
    trusted network.
    """
    return not local and is_loopback(address)


def client_address(peername: Any, proxy: ProxyData | None) -> tuple[str, int, bool]:
    """The client's address and port, and whether the client really is on this machine.

    `peername` is the socket's peer name; anything other than a tuple of host and port counts as this machine.
    """
    name = peername or ("", 0)
    address, port = (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("127.0.0.1", 0)
    local = is_loopback(address)
    # A LOCAL header marks the proxy's own health check; its addresses must be ignored (PROXY §2.2).
    if proxy is not None and proxy.command != V2_CMD.LOCAL and not isinstance(proxy.src_addr, (str, bytes, type(None))):
        address, port = str(proxy.src_addr), proxy.src_port or 0
        local = local and is_loopback(address)
    return address, port, local
