"""What a lane works on: one message for some of its recipients, one transaction."""

from collections.abc import Iterator
from dataclasses import dataclass

from relay_queue.model import Body, Message, Recipient


@dataclass(slots=True)
class Work:
    """One transaction to be made, in a lane's window (all recipients ACTIVE and ours)."""

    message: Message
    recipients: list[Recipient]
    body: Body | None
    """None: to be read from the queue when its turn comes."""
    retried: bool = False
    """It was put back once because a reused connection turned out dead; not another time."""

    @property
    def octets(self) -> int:
        """Memory that the body takes in the window."""
        return len(self.body.head) if self.body is not None else 0


def split(message: Message, recipients: list[Recipient], body: Body | None, at_most: int) -> Iterator[Work]:
    """One or several transactions of at most `at_most` recipients (RFC 5321 §4.5.3.1.8 asks servers to take 100)."""
    for start in range(0, len(recipients), at_most):
        yield Work(message, recipients[start : start + at_most], body)
