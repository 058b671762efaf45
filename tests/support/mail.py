"""Messages for tests that need a filled queue."""

import itertools
from collections.abc import Sequence
from typing import Any

from relay_queue.ids import new_id
from relay_queue.model import Body, Entry, Message, Put, Recipient

_COUNT = itertools.count()


def message_put(
    *addresses: str,
    sender: str = "app@example.test",
    user: str | None = "app",
    received_at: float = 1_700_000_000.0,
    content: bytes | None = None,
    recipient: dict[str, Any] | None = None,
    **fields: Any,
) -> Put:
    """A message to `addresses`, ready for `put`; `recipient` holds fields for each of them."""
    number = next(_COUNT)
    if content is None:
        content = f"From: {sender}\r\nSubject: Message {number}\r\n\r\nHello {number}\r\n".encode()
    message = Message(id=new_id(), received_at=received_at, sender=sender, user=user, size=len(content), **fields)
    recipients: Sequence[Recipient] = [
        Recipient(
            message_id=message.id,
            n=n,
            address=address,
            domain=address.rpartition("@")[2],
            due_at=received_at,
            changed_at=received_at,
            **(recipient or {}),
        )
        for n, address in enumerate(addresses)
    ]
    return Put(Entry(message, list(recipients)), Body(content))
