"""What one message costs the SMTP client: CPU microseconds on a kept connection, receiver in a process of its own.

    python bench/smtp_client_bench.py [messages] [--loop asyncio|uvloop]

The receiver is the barest that pipelines, so that it is never what is waited for. CPU is this process's own user and
system time, so the receiver's work and idle waiting don't count.
"""

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import statistics
import tempfile
import time
from pathlib import Path
from typing import cast

import uvloop

from relay.smtp.client.connect import connect
from relay.smtp.client.connection import Connection
from relay.smtp.client.model import Outgoing, OutgoingRecipient, Target, Timeouts, TlsPolicy
from relay.smtp.client.tls import ClientTls

ROUNDS = 5


class Sink(asyncio.Protocol):
    """Answers all that is asked with yes; a message ends with CRLF.CRLF at the end of a segment."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.data = False
        self.tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Say yes."""
        assert self.transport is not None
        if self.data:
            self.tail = (self.tail + data[-5:])[-5:]
            if self.tail == b"\r\n.\r\n":
                self.data = False
                self.transport.write(b"250 2.0.0 Ok: queued as 4F2B1C0D3E\r\n")
            return
        out = []
        for line in data.splitlines():
            if line.startswith(b"EHLO"):
                out.append(b"250-sink\r\n250-PIPELINING\r\n250-SIZE 0\r\n250 8BITMIME\r\n")
            elif line == b"DATA":
                out.append(b"354 End data with <CR><LF>.<CR><LF>\r\n")
                self.data, self.tail = True, b""
            else:
                out.append(b"250 2.1.0 Ok\r\n")
        self.transport.write(b"".join(out))


def serve(channel: multiprocessing.connection.Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        channel.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


async def measure(connection: Connection, outgoing: Outgoing, count: int) -> tuple[float, float]:
    """CPU microseconds a message, and messages a second."""
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(count):
        result = await connection.send(outgoing)
        assert result.replies[0].code == 250
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return cpu / count * 1e6, count / wall


async def run(port: int, count: int) -> None:
    connection = await connect(
        Target("sink", "127.0.0.1", port),
        TlsPolicy.NONE,
        hostname="bench.test",
        tls=ClientTls(),
        credentials=None,
        source=None,
        timeouts=Timeouts(),
    )
    header = b"Subject: x\r\nFrom: a@b.test\r\nTo: c@d.test\r\n\r\n"
    line = b"0123456789" * 7 + b"\r\n"
    print(f"{'message':>12} {'recipients':>10} {'CPU µs':>10} {'min':>8} {'max':>8} {'per second':>11}")
    with tempfile.TemporaryDirectory() as folder:
        for size, recipients, times in (
            (1024, 1, count),
            (4096, 1, count),
            (4096, 10, count // 4),
            (65_536, 1, count // 8),
        ):
            body = header + line * ((size - len(header)) // len(line))
            await report(connection, outgoing(recipients, body, len(body)), size, recipients, times)
        file = Path(folder) / "body"
        file.write_bytes(line * (5 * 1024 * 1024 // len(line)))
        large = outgoing(1, header, len(header) + file.stat().st_size)
        large.open_file = lambda: file.open("rb")
        await report(connection, large, large.size, 1, max(1, count // 500))
    await connection.quit()


def outgoing(recipients: int, head: bytes, size: int) -> Outgoing:
    return Outgoing("sender@b.test", [OutgoingRecipient(f"r{n}@d.test") for n in range(recipients)], head, size)


async def report(connection: Connection, message: Outgoing, size: int, recipients: int, count: int) -> None:
    await measure(connection, message, max(1, count // 10))
    rounds = [await measure(connection, message, count) for _ in range(ROUNDS)]
    cpu = [cost for cost, _ in rounds]
    rate = statistics.median(speed for _, speed in rounds)
    print(
        f"{size:>12} {recipients:>10} {statistics.median(cpu):>10.1f} {min(cpu):>8.1f} {max(cpu):>8.1f} {rate:>11.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("messages", nargs="?", type=int, default=4000)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    sink.start()
    port = ours.recv()
    try:
        (uvloop.run if arguments.loop == "uvloop" else asyncio.run)(run(port, arguments.messages))
    finally:
        sink.terminate()
        sink.join()


if __name__ == "__main__":
    main()
