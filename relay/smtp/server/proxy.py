"""Who a client is: its address, or what the PROXY protocol, versions 1 and 2, says in front of the session.

The header is read from the bare socket, and no octet more, so that a TLS handshake right behind it is left to the
transport. The grammar is aiosmtpd's.
"""

import asyncio
import socket
from typing import Any

from aiosmtpd.proxy_protocol import V2_CMD, ProxyData, get_proxy

from relay.smtp.server.context import is_loopback

_MAX_V1 = 107
"""Octets of a version 1 header with its CRLF (PROXY protocol §2.1)."""


class SocketReader:
    """What aiosmtpd's parser reads from: never takes an octet more than asked for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self._loop = loop
        self._sock = sock

    async def read(self, n: int = 1) -> bytes:
        """Up to `n` octets; none at the end."""
        return await self._loop.sock_recv(self._sock, n)

    async def readexactly(self, n: int = 1) -> bytes:
        """Just `n` octets."""
        found = b""
        while len(found) < n:
            block = await self.read(n - len(found))
            if not block:
                raise ConnectionError("the connection ended within the PROXY header")
            found += block
        return found

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        """Up to and with `separator`; octet by octet, since nothing behind it may be taken."""
        found = b""
        while not found.endswith(separator):
            if len(found) >= _MAX_V1:
                raise ConnectionError("the PROXY header is too long")
            found += await self.readexactly(1)
        return found


async def read_proxy(loop: asyncio.AbstractEventLoop, sock: socket.socket, timeout: float) -> ProxyData | None:  # noqa: ASYNC109 - the header has its own limit, whoever calls
    """The header, or None when there is no valid one in time."""
    try:
        async with asyncio.timeout(timeout):
            found = await get_proxy(SocketReader(loop, sock))
    except (TimeoutError, OSError, asyncio.IncompleteReadError):
        return None
    return found if found.valid else None


def claims_loopback(address: str, *, local: bool) -> bool:
    """Whether a client is said to have a loopback address without being on this machine (see `client_address`).

    A proxy elsewhere said so, or whoever reaches a listener that expects one. If it is true at all, then of another
    machine: it must not unlock what this machine's own programs may do, although 127.0.0.0/8 is a trusted network.
    """
    return not local and is_loopback(address)


def client_address(peername: Any, proxy: ProxyData | None) -> tuple[str, int, bool]:
    """The client's address and port, and whether it is on this machine, whoever it claims to be.

    `peername` as the socket has it; anything but a tuple of host and port counts as this machine.
    """
    name = peername or ("", 0)
    address, port = (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("127.0.0.1", 0)
    local = is_loopback(address)
    # A LOCAL header is the proxy's own health check: what it says of addresses is to be ignored (PROXY §2.2).
    if proxy is not None and proxy.command != V2_CMD.LOCAL and not isinstance(proxy.src_addr, (str, bytes, type(None))):
        address, port = str(proxy.src_addr), proxy.src_port or 0
        local = local and is_loopback(address)
    return address, port, local
