"""A process that loads a queue and tells on stdout what was acknowledged; a test kills it or lets it end.

    python queue_load.py FOLDER SLOT COUNT

`put ID` after a put was durable, `end ID` after its recipient's end was, `claim ID` after a claim was.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from relay_queue.ids import new_id
from relay_queue.model import LOCAL_NODE, Body, Destination, Entry, Mark, Message, Owner, Put, Recipient
from relay_queue.sqlite import open_queue
from relay_queue.states import State

LARGE = 300_000


def tell(word: str, message_id: str) -> None:
    """One line at once; a pipe takes it whole."""
    os.write(1, f"{word} {message_id}\n".encode())


async def one(queue, owner: Owner, n: int) -> None:
    """The life of one message: every third stays queued, every tenth has its body in a file."""
    now = time.time()
    message = Message(id=new_id(now), received_at=now, sender="a@x.test", size=4)
    waits = n % 3 == 0
    recipient = Recipient(
        message_id=message.id,
        n=0,
        address="b@y.test",
        domain="y.test",
        state=State.QUEUED if waits else State.ACTIVE,
        owner=None if waits else owner.lease,
    )
    body = Body(b"Subject: x\r\n\r\n" + message.id.encode())
    if n % 10 == 0:
        file = queue.new_file()
        file.write(message.id.encode() * (LARGE // 26))
        body = Body(body.head, os.path.basename(file.name), LARGE // 26 * 26)  # noqa: PTH119 -- a name, not a path
    await queue.put(Put(Entry(message, [recipient]), body))
    tell("put", message.id)
    if not waits:
        mark = Mark(message_id=message.id, n=0, owner=owner.lease, state=State.DELIVERED, at=now, attempts=1)
        assert await queue.mark([mark]) == []
        tell("end", message.id)
        return
    for entry in await queue.claim(owner, Destination("y.test"), 2, now):
        tell("claim", entry.message.id)


async def main() -> None:
    """Keep 20 lives going until there were COUNT of them."""
    folder, slot, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    queue = open_queue(folder)
    owner = await queue.lease(LOCAL_NODE, slot)
    numbers = iter(range(count))

    async def lives() -> None:
        for n in numbers:
            await one(queue, owner, n)

    await asyncio.gather(*(lives() for _ in range(20)))
    await queue.aclose()


if __name__ == "__main__":
    asyncio.run(main())
