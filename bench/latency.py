"""How long a message takes at an easy pace: from the server's 250 to its client until the receiver's 250 to the server.

Client and receiver are in one process and read one clock. Each message comes over its own connection, at fixed times
whether or not those before it are through, so that a slow answer cannot slow the load down.
"""

import asyncio
import contextlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.addresses import RECIPIENT, SENDER
from bench.ours import Relay, RelayOptions, the_route
from bench.postfix import Postfix, PostfixOptions
from bench.processes import free_port
from bench.receiver import Receiver, receiving
from bench.runs import Plan, Server
from bench.words import BenchError, Row, SkipError, Target

_PACE = 50
"""Messages per second."""
_PATIENCE = 60.0
_ENVELOPE = (b"EHLO client.example.com", f"MAIL FROM:<{SENDER}>".encode(), f"RCPT TO:<{RECIPIENT}>".encode(), b"DATA")


_ROWS = (("250 to the client -> receiver's 250", "relaying"), ("end of content -> receiver's 250", "whole"))


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one run, one of each for every message."""

    relaying: list[float]
    """From the 250 to the client until the receiver's 250. Below zero where the receiver had it first."""
    whole: list[float]
    """From the end of the content until the receiver's 250."""


def measure(name: str, folder: Path, plan: Plan, *, alone: bool) -> list[Row]:
    """Rows of p50 and p99."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        options = RelayOptions(extra=the_route(port))
        servers: list[Server] = [stack.enter_context(Relay(folder / "relay", options).serving())]
        note = ""
        if not alone:
            try:
                postfix = Postfix(folder / "postfix", port, PostfixOptions())
                servers.append(stack.enter_context(postfix.serving()))
            except SkipError as error:
                note = f"without Postfix: {error}"
        times = asyncio.run(_in_turn(servers, port, plan))
    rows = []
    for what, field in (
        ("250 to the client -> receiver's 250", "relaying"),
        ("end of content -> receiver's 250", "whole"),
    ):
        for percent in (50, 99):
            values = [[_percentile(getattr(run, field), percent) * 1000 for run in runs] for runs in times]
            target = Target("ratio", 1.0, 0.5, at_least=False)
            other = values[1] if len(values) > 1 else []
            rows.append(Row(name, f"{what}, {_PACE}/s, p{percent}", "ms", values[0], other, target=target, note=note))
    return rows


async def _in_turn(servers: Sequence[Server], port: int, plan: Plan) -> list[list[Times]]:
    times: list[list[Times]] = [[] for _ in servers]
    first = 1
    async with receiving(port) as receiver:
        for server in servers:
            first = (await _run(server, receiver, first, _PACE))[1]
        for number in range(plan.runs):
            for server, mine in zip(servers, times, strict=True):
                run, first = await _run(server, receiver, first, plan.messages or int(_PACE * plan.seconds))
                mine.append(run)
                middle, most = statistics.median(run.relaying) * 1000, _percentile(run.relaying, 99) * 1000
                print(f"  run {number + 1} {server.name:8} p50 {middle:.2f} ms, p99 {most:.2f} ms")
    return times


async def _run(server: Server, receiver: Receiver, first: int, count: int) -> tuple[Times, int]:
    """Submit at the pace. Returns the times, and the number of the next message."""
    began = time.perf_counter()
    tasks = []
    for number in range(first, first + count):
        await asyncio.sleep(began + (number - first) / _PACE - time.perf_counter())
        tasks.append(asyncio.create_task(_submit(server.port, number)))
    moments = await asyncio.gather(*tasks)
    numbers = range(first, first + count)
    deadline = time.perf_counter() + _PATIENCE
    while not all(number in receiver.arrived for number in numbers):
        if time.perf_counter() > deadline:
            raise BenchError(f"{server.name}: messages did not arrive; {server.waiting()} in its queue")
        await asyncio.sleep(0.05)
    pairs = [(receiver.arrived[number], moment) for number, moment in zip(numbers, moments, strict=True)]
    return Times([at - taken for at, (_, taken) in pairs], [at - ended for at, (ended, _) in pairs]), first + count


async def _submit(port: int, number: int) -> tuple[float, float]:
    """When the content's end was written, and when the 250 came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
    await _reply(reader)
    for line in _ENVELOPE:
        writer.write(line + b"\r\n")
        await _reply(reader)
    content = f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nMessage-ID: <{number:x}@client.example.com>\r\n\r\n".encode()
    writer.write(content + (b"X" * 78 + b"\r\n") * 50 + b".\r\n")
    ended = time.perf_counter()
    await _reply(reader)
    taken = time.perf_counter()
    writer.write(b"QUIT\r\n")
    with contextlib.suppress(ConnectionError):
        await reader.read()
    writer.close()
    return ended, taken


async def _reply(reader: asyncio.StreamReader) -> None:
    while True:
        line = await reader.readline()
        if line[:1] not in (b"2", b"3"):
            raise BenchError(f"unexpected reply: {line.decode(errors='replace').strip() or 'connection closed'}")
        if line[3:4] != b"-":
            return


def _percentile(values: list[float], percent: int) -> float:
    return sorted(values)[min(len(values) - 1, len(values) * percent // 100)]
