"""How a deep queue behaves: fills one with deferred recipients, then times what a server and an admin ask of it.

python -m bench.queue_depth [--recipients 1000000] [--domains 5000] [--body 512] [--folder DIR]
"""

import argparse
import asyncio
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay_queue.ids import new_id
from relay_queue.model import LOCAL_NODE, Body, Destination, Entry, Message, Put, Recipient, Selection
from relay_queue.protocol import Action
from relay_queue.sqlite import open_admin, open_queue
from relay_queue.sqlite.apply import Changes
from relay_queue.sqlite.connect import FILE_NAME, connect
from relay_queue.sqlite.rows import put_rows
from relay_queue.states import State

NOW = time.time()


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what:45} {(time.perf_counter() - began) * 1000:10.1f} ms", flush=True)


def puts(count: int, domains: int, size: int, first_due: float = -60.0) -> Iterator[Put]:
    """Messages with one deferred recipient each, due over an hour from `first_due` seconds from now on."""
    body = Body(b"X" * size)
    for n in range(count):
        at = NOW - 86400 + n / count * 80000
        message = Message(id=new_id(at), received_at=at, sender=f"s{n % 100}@sender.test", size=size)
        domain = f"d{n * 7919 % domains}.test"
        recipient = Recipient(
            message_id=message.id,
            n=0,
            address=f"user{n}@{domain}",
            domain=domain,
            attempts=1,
            due_at=NOW + first_due + n % 3600,
            lane=f"mx.{domain}",
            reply="451 4.7.1 Greylisted, please come back later",
            failure="greylisted",
        )
        yield Put(Entry(message, [recipient]), body)


def fill(folder: Path, made: Iterator[Put]) -> None:
    """Store them without the server, in large transactions."""
    connection = connect(folder / FILE_NAME)
    changes = Changes(connection)
    while batch := list(itertools.islice(made, 10000)):
        connection.execute("BEGIN IMMEDIATE")
        changes.store([row for put in batch for row in put_rows(put, None)])
        connection.execute("COMMIT")
    connection.close()


async def serve(folder: Path, domains: int) -> None:
    with timed("open"):
        queue = open_queue(folder)
    with timed("recover_node"):
        await queue.recover_node(LOCAL_NODE)
    owner = await queue.lease(LOCAL_NODE, 1)
    with timed("due, first 100 domains"):
        await queue.due(NOW, None, 100)
    with timed("due, all domains by 1000"):
        after = None
        while page := await queue.due(NOW, after, 1000):
            after = page[-1][0]
    with timed("claim 100 of one domain"):
        await queue.claim(owner, Destination("d7.test"), 100, NOW + 9999)
    with timed("claim of 50 domains, 10 each"):
        for n in range(50):
            await queue.claim(owner, Destination(f"d{n * 31 % domains}.test"), 10, NOW + 9999)
    with timed("put, one"):
        await queue.put(next(puts(1, 1, 4096)))
    with timed("put, 2000 at once"):
        await asyncio.gather(*(queue.put(put) for put in puts(2000, 100, 4096)))
    with timed("recover(1), what was claimed"):
        await queue.recover(await queue.lease(LOCAL_NODE, 1))
    with timed("close"):
        await queue.aclose()


def steer(folder: Path) -> None:
    admin = open_admin(folder)
    selections = {
        "all": Selection(),
        "domain": Selection(domain="d7.test"),
        "recipient": Selection(recipient="user999@d1.test"),
        "sender": Selection(sender="s7@sender.test"),
        "error, none has": Selection(error="no such words"),
        "held, none is": Selection(states=(State.HELD,)),
    }
    for name, selection in selections.items():
        with timed(f"summary: {name}"):
            admin.summary(selection)
        with timed(f"select, limit 100: {name}"):
            list(admin.select(selection, 100))
    with timed("hold a domain"):
        print(admin.steer(Action.HOLD, Selection(domain="d7.test"), now=NOW).recipients, end=" ")
    with timed("flush 10000"):
        admin.steer(Action.FLUSH, Selection(), now=NOW, limit=10000)
    admin.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--domains", type=int, default=5000)
    parser.add_argument("--body", type=int, default=512)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(made) / "data"
        open_admin(folder).close()
        with timed(f"fill with {args.recipients} recipients"):
            fill(folder, puts(args.recipients, args.domains, args.body))
        print(f"{(folder / FILE_NAME).stat().st_size >> 20} MiB")
        asyncio.run(serve(folder, args.domains))
        steer(folder)
    print(f"most memory used: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
