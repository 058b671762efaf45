"""What a lane works on: one message for some of its recipients, in one transaction."""

from collections.abc import Iterator

import msgspec

from relay.delivery.transport import Capacity
from relay_queue.model import Body, Message, Recipient


class Work(msgspec.Struct):
    """One transaction to be made, in a lane's window. All of its recipients are ACTIVE and claimed by this worker."""

    message: Message
    recipients: list[Recipient]
    body: Body | None
    """None: to be read from the queue when its turn comes."""
    retried: bool = False
    """It was put back once because a reused session turned out dead; this is not done a second time."""

    @property
    def held(self) -> int:
        """Bytes of memory that its body takes in the window."""
        return len(self.body.head) if self.body is not None else 0


def split(message: Message, recipients: list[Recipient], body: Body | None, at_most: int) -> Iterator[Work]:
    """One or several transactions of at most `at_most` recipients (RFC 5321 §4.5.3.1.8 asks servers to take 100)."""
    for start in range(0, len(recipients), at_most):
        yield Work(message, recipients[start : start + at_most], body)


def fit(work: Work, capacity: Capacity) -> tuple[Work, Work | None]:
    """What the peer takes in one transaction, and the rest as a work of its own."""
    if capacity.recipients is None and capacity.domains is None:
        return work, None
    most = capacity.recipients or len(work.recipients)
    most_domains = capacity.domains or most
    taken: list[Recipient] = []
    rest: list[Recipient] = []
    domains: set[str] = set()
    for recipient in work.recipients:
        fits = recipient.domain in domains or len(domains) < most_domains
        if fits and len(taken) < most:
            taken.append(recipient)
            domains.add(recipient.domain)
        else:
            rest.append(recipient)
    if not rest:
        return work, None
    return Work(work.message, taken, work.body, work.retried), Work(work.message, rest, work.body, work.retried)
