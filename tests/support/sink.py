"""The receiving side of the fault harness: a mail server on asyncio that is quick, and writes down what it took.

By local part: `no-…` is refused for good, `later-…` is told to come back the first time, everyone else is taken. Use
`tests.support.receiver` where the dialog itself matters.
"""

import asyncio
import random
import re
import time
import zlib
from collections.abc import Callable

from tests.support.ledger import Ledger

_PATH = re.compile(rb"<([^>]*)>")
_END = b"\r\n.\r\n"


class Sink:
    """Listens on (address, port); `delay` seconds at most, at random, before the reply to the final dot."""

    def __init__(self, address: str, port: int, ledger: Ledger, delay: float = 0.0) -> None:
        self.address = address
        self.port = port
        self.ledger = ledger
        self.delay = delay
        self.taken = 0
        self.on_taken: Callable[[int], None] | None = None
        """Called right after a 250 for a whole message was handed to the kernel, with the peer's port."""
        self.postponed: set[str] = set()
        self.cut: list[str] = []
        """Whose 250 may have been lost, as the connection was cut before the peer went on."""
        self.connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), self.address, self.port, backlog=1000)

    async def stop(self) -> None:
        """Refuse connections from now on, and cut those there are."""
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.cut()
        await self._server.wait_closed()


class Connection(asyncio.Protocol):
    """One session. Replies are written at once, so that a pipelining peer gets them in one segment."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.transport: asyncio.Transport
        self._unheard: list[str] = []
        """Recipients of the last 250, until the peer goes on."""
        self._storing: list[str] = []
        """Recipients of a message whose 250 is still to come."""
        self._in = bytearray()
        self._recipients: list[str] = []
        self._content = False
        self._searched = 0
        self._opened = time.time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.sink.connections.add(self)
        transport.write(b"220 sink.test ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self.sink.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._in += data
        self._unheard = []
        while True:
            if self._content:
                end = self._in.find(_END, max(0, self._searched - len(_END)))
                if end < 0:
                    self._searched = len(self._in)
                    return
                content = bytes(self._in[: end + 2])
                del self._in[: end + len(_END)]
                self._content = False
                self._whole(content)
            else:
                line, found, _ = self._in.partition(b"\r\n")
                if not found:
                    return
                del self._in[: len(line) + 2]
                self._command(bytes(line))

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            reply = (
                b"250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000\r\n"
            )
        elif verb == b"RCPT":
            reply = self._recipient(line)
        elif verb == b"DATA" and self._recipients:
            self._content = True
            self._searched = 0
            reply = b"354 go on\r\n"
        elif verb == b"DATA":
            reply = b"554 5.5.1 no valid recipients\r\n"
        elif verb == b"QUIT":
            self.transport.write(b"221 2.0.0 bye\r\n")
            self.transport.close()
            return
        else:
            self._recipients = []
            reply = b"250 2.0.0 ok\r\n"
        self.transport.write(reply)

    def _recipient(self, line: bytes) -> bytes:
        found = _PATH.search(line)
        assert found is not None, line
        address = found[1].decode()
        if address.startswith("no-"):
            return b"550 5.1.1 no such user\r\n"
        if address.startswith("later-") and address not in self.sink.postponed:
            self.sink.postponed.add(address)
            return b"450 4.2.0 come back\r\n"
        self._recipients.append(address)
        return b"250 2.1.5 ok\r\n"

    def cut(self) -> None:
        """End without a word, as a receiver that dies; every other message that it was storing it has stored."""
        if self._storing and random.random() < 0.5:
            for address in self._storing:
                self.sink.ledger.hand(address, time.time(), self._opened)
            self._unheard = self._storing
        self.sink.cut += self._unheard
        self.transport.abort()

    def _whole(self, content: bytes) -> None:
        recipients, self._recipients = self._recipients, []
        self._storing = recipients
        if self.sink.delay:
            asyncio.get_running_loop().call_later(random.uniform(0, self.sink.delay), self._take, recipients, content)
        else:
            self._take(recipients, content)

    def _take(self, recipients: list[str], content: bytes) -> None:
        if self.transport.is_closing():
            return  # the peer died before it could be told: it will come again
        self._storing = []
        now = time.time()
        for address in recipients:
            self.sink.ledger.hand(address, now, self._opened)
        if problem := _damage(content):
            self.sink.ledger.damaged.append(f"{recipients}: {problem}")
        self.sink.taken += 1
        self._unheard = recipients
        self.transport.write(b"250 2.0.0 taken\r\n")
        if self.sink.on_taken is not None:
            self.sink.on_taken(self.transport.get_extra_info("peername")[1])


def _damage(content: bytes) -> str:
    """Compare the body with the sum in the header that the load client put there; DSNs have none."""
    header, _, body = content.partition(b"\r\n\r\n")
    found = re.search(rb"(?m)^X-Check: (\d+)\r?$", header)
    if found is None or b"multipart/report" in header:
        return ""
    expected, actual = int(found[1]), zlib.crc32(body)
    return "" if expected == actual else f"check {actual}, expected {expected}, {len(body)} octets"
