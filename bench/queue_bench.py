"""What a message's whole life in the queue costs: put (fsynced), then marked delivered (fsynced), beside a busy loop.

    python -m bench.queue_bench [--messages 20000] [--sessions 100] [--busy 200] [--processes 2] [--size 4096]

`busy` is what the event loop computes for each message besides, in microseconds: the place of SMTP. CPU is that of all
threads without it; `writer` is the writer threads' share.
"""

import argparse
import asyncio
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

from relay_queue.ids import new_id
from relay_queue.model import Body, Entry, Mark, Message, Put, Recipient
from relay_queue.protocol import Queue
from relay_queue.sqlite import open_admin
from relay_queue.sqlite.store import SqliteQueue
from relay_queue.states import State


def spin(microseconds: float) -> None:
    end = time.perf_counter() + microseconds / 1e6
    while time.perf_counter() < end:
        pass


def a_put(body: bytes, slot: int) -> Put:
    now = time.time()
    message = Message(id=new_id(now), received_at=now, sender="sender@example.com", size=len(body), user="app")
    recipient = Recipient(
        message_id=message.id,
        n=0,
        address="recipient@example.org",
        domain="example.org",
        state=State.ACTIVE,
        owner=slot,
        changed_at=now,
    )
    return Put(Entry(message, [recipient]), Body(body))


async def session(queue: Queue, slot: int, count: int, busy: float, body: bytes, waits: list[float]) -> None:
    for _ in range(count):
        spin(busy / 2)
        put = a_put(body, slot)
        began = time.perf_counter()
        await queue.put(put)
        waits.append(time.perf_counter() - began)
        spin(busy / 2)
        mark = Mark(
            message_id=put.entry.message.id,
            n=0,
            owner=slot,
            state=State.DELIVERED,
            at=time.time(),
            attempts=1,
            reply="250 2.0.0 Ok: queued as 4XyZ12345",
            lane="mx.example.org",
            remote="mx.example.org[192.0.2.1]",
        )
        assert not await queue.mark([mark])


async def work(folder: Path, slot: int, args: argparse.Namespace) -> dict[str, float]:
    queue = SqliteQueue(folder)
    body = b"X-Pad: " + b"x" * (args.size - 11) + b"\r\n\r\n"
    waits: list[float] = []
    before, loop_before, began = resource.getrusage(resource.RUSAGE_SELF), time.thread_time(), time.perf_counter()
    each = args.messages // args.sessions // args.processes
    await asyncio.gather(*(session(queue, slot, each, args.busy, body, waits) for _ in range(args.sessions)))
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    loop = time.thread_time() - loop_before
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    commits = queue.writer.commits
    await queue.aclose()
    waits.sort()
    return {
        "done": len(waits),
        "seconds": seconds,
        "cpu": cpu / len(waits) * 1e6 - args.busy,
        "writer": (cpu - loop) / len(waits) * 1e6,
        "batch": 2 * len(waits) / commits,
        "p50": statistics.median(waits) * 1e3,
        "p99": waits[int(len(waits) * 0.99)] * 1e3,
    }


def run(job: tuple[Path, int, argparse.Namespace]) -> dict[str, float]:
    return uvloop.run(work(*job))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20000)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--busy", type=float, default=200)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        open_admin(Path(folder) / "data").close()
        jobs = [(Path(folder) / "data", slot, args) for slot in range(1, args.processes + 1)]
        if args.processes == 1:
            results = [run(jobs[0])]
        else:
            with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
                results = pool.map(run, jobs)
    rate = sum(row["done"] / row["seconds"] for row in results)
    print(f"{rate:8.0f} messages/s")
    for row in results:
        print(
            f"  CPU {row['cpu']:5.0f} us a message (writer {row['writer']:4.0f}), "
            f"{row['batch']:5.1f} operations a commit, put p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms"
        )


if __name__ == "__main__":
    main()
