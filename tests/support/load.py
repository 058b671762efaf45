"""The submitting side of the fault harness: clients that go on whatever happens, and write down every answer."""

import asyncio
import contextlib
import itertools
import random
import time
import zlib
from collections.abc import Callable, Iterator

from tests.support.ledger import Answer, Given, Ledger

_PATIENCE = 60.0
"""Seconds after which a reply that has not come is a hang."""
_LINES = 8192
"""Lines of a block: some 600 KB, more than all but the largest messages have."""


class Load:
    """`connections` clients that send messages to 127.0.0.1:`port`, about `rate` a second together."""

    def __init__(
        self,
        port: int,
        ledger: Ledger,
        *,
        connections: int = 4,
        rate: float = 300,
        seed: int = 0,
        patience: float = _PATIENCE,
    ) -> None:
        self.port = port
        self.ledger = ledger
        self.on_answer: Callable[[int], None] | None = None
        """Called right after a reply to a final dot was read, with the client's port."""
        self.hangs = 0
        self.plain = False
        """Only single-recipient messages of one kind, small."""
        self.domains = 8
        self.hurry = False
        """End each session after its transaction, as a client does that is not a load generator."""
        self.sizes: dict[str, int] = {}
        """Body sizes in octets, of tokens that want a certain one."""
        self._patience = patience
        self._pause = connections / rate
        self._connections = connections
        self._random = random.Random(seed)
        self._run = f"{self._random.randrange(1 << 32):x}"
        self._count = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._client()) for _ in range(self._connections)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _client(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
            except TimeoutError:
                self.hangs += 1
                continue
            except OSError:
                await asyncio.sleep(0.02)
                continue
            try:
                await self._session(reader, writer)
            except TimeoutError:
                self.hangs += 1
            except (OSError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.02)
            finally:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not (await self._reply(reader)).startswith("220"):
            await asyncio.sleep(0.05)
            return
        writer.write(b"EHLO load.test\r\n")
        await self._reply(reader)
        for _ in range(100):
            given = self.message()
            self.ledger.given[given.token] = given
            if not await self.send(reader, writer, given):
                writer.write(b"RSET\r\n")
                await self._reply(reader)
            await asyncio.sleep(self._random.uniform(0, 2 * self._pause))
            if self.hurry:
                return

    async def _reply(self, reader: asyncio.StreamReader) -> str:
        async with asyncio.timeout(self._patience):
            while True:
                line = await reader.readuntil(b"\r\n")
                if line[3:4] != b"-":
                    return line.decode("ascii", "replace").rstrip()

    async def once(self, given: Given) -> None:
        """A connection for one message. Raises as the connection breaks."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            await self._reply(reader)
            writer.write(b"EHLO once.test\r\n")
            await self._reply(reader)
            await self.send(reader, writer, given)
        finally:
            writer.transport.abort()

    async def send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, given: Given) -> bool:
        """One transaction; True when the message was answered 250."""
        commands = [f"MAIL FROM:<{given.sender}>", *(f"RCPT TO:<{to}>" for to in given.recipients), "DATA"]
        writer.write("".join(f"{line}\r\n" for line in commands).encode())
        replies = [await self._reply(reader) for _ in commands]
        refused = [reply for reply in replies if not reply.startswith(("2", "354"))]
        if refused and not replies[-1].startswith("354"):
            given.answer, given.reply, given.at = Answer.REFUSED, refused[0], time.time()
            return False
        given.recipients = tuple(
            to for to, reply in zip(given.recipients, replies[1:-1], strict=True) if reply.startswith("2")
        )
        *blocks, last = self.content(given)
        for block in blocks:
            writer.write(block)
            await writer.drain()
        writer.write(last)
        # Only now can the server have the whole message: nothing before these octets were in the kernel can count.
        given.answer = Answer.UNKNOWN
        await writer.drain()
        given.reply = await self._reply(reader)
        if not given.reply.startswith("421"):
            # 421 after the dot: the disk failed in the very commit, which may be there all the same after a restart.
            given.answer = Answer.TAKEN if given.reply.startswith("250") else Answer.REFUSED
        given.at = time.time()
        if self.on_answer is not None:
            self.on_answer(writer.get_extra_info("sockname")[1])
        return given.answer is Answer.TAKEN

    def large_message(self) -> Given:
        """The next message whose body lies in a file, to one recipient who takes it."""
        while not _large(given := self.message()):
            pass
        given.recipients = (f"ok-{given.token}@d0.test",)
        return given

    def message(self) -> Given:
        """The next message: mostly one recipient, sometimes three, some that fail, some that have to wait."""
        token = f"{self._run}-{next(self._count)}"
        kind = "ok" if self.plain else self._random.choices(("ok", "three", "no", "later"), (80, 8, 6, 6))[0]
        kinds = {"three": ("ok", "also", "no")}.get(kind, (kind,))
        first = self._random.randrange(self.domains)
        return Given(token, tuple(f"{kind}-{token}@d{(first + n) % self.domains}.test" for n, kind in enumerate(kinds)))

    def content(self, given: Given) -> Iterator[bytes]:
        """The message's octets with the final dot; one in 25 has a body that lies in a file of its own.

        In blocks, so that a hundred large messages at once need no memory here.
        """
        size = 300_000 if _large(given) and not self.plain else 1_000
        size = self.sizes.get(given.token, size)
        line = f"{given.token} {'x' * 60}\r\n".encode()
        lines = 1 + size // len(line)
        whole, rest = divmod(lines, _LINES)
        block = line * _LINES
        check = 0
        for _ in range(whole):
            check = zlib.crc32(block, check)
        check = zlib.crc32(line * rest, check)
        header = (
            f"From: <{given.sender}>\r\nTo: <{given.recipients[0]}>\r\nSubject: {given.token}\r\n"
            f"X-Check: {check}\r\n\r\n"
        ).encode()
        for _ in range(whole):
            yield header + block
            header = b""
        yield header + line * rest + b".\r\n"


async def round_trips(port: int) -> list[float]:
    """Connect, EHLO and ten NOOPs; how long each reply took, in seconds."""
    lags = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for command in (b"", b"HELO lag.test\r\n", *[b"NOOP\r\n"] * 10, b"QUIT\r\n"):
        began = time.perf_counter()
        writer.write(command)
        async with asyncio.timeout(30):
            await reader.readline()
        lags.append(time.perf_counter() - began)
        await asyncio.sleep(0.01)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return lags


def _large(given: Given) -> bool:
    return zlib.crc32(given.token.encode()) % 25 == 0
