"""A sink of our own that notes when each message was complete: for latency, of which smtp-sink says nothing."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_NUMBER = re.compile(rb"^Message-ID: *<([0-9a-f]+)@", re.MULTILINE | re.IGNORECASE)
_REPLIES = {b"EHLO": b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n", b"DATA": b"354 go on\r\n"}


class Receiver:
    """Numbers of messages and when their 250 was sent (time.perf_counter)."""

    def __init__(self) -> None:
        self.arrived: dict[int, float] = {}

    async def session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        writer.write(b"220 sink ESMTP\r\n")
        try:
            while line := await reader.readline():
                verb = line[:4].upper().rstrip()
                writer.write(_REPLIES.get(verb, b"250 ok\r\n"))
                if verb == b"DATA":
                    content = await reader.readuntil(b"\r\n.\r\n")
                    writer.write(b"250 taken\r\n")
                    self._note(content)
                elif verb == b"QUIT":
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the server under test left, or we end; what is missing is noticed by number
        finally:
            writer.close()

    def _note(self, content: bytes) -> None:
        found = _NUMBER.search(content)
        if found:
            self.arrived.setdefault(int(found[1], 16), time.perf_counter())


@asynccontextmanager
async def receiving(port: int) -> AsyncIterator[Receiver]:
    """A receiver that listens until the block ends."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver.session, "127.0.0.1", port, limit=1 << 20)
    async with server:
        yield receiver
