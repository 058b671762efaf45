"""The unit of work of a lane: one message for some of its recipients, sent in one transaction."""

from collections.abc import Iterator

import msgspec

from relay.delivery.transport import Capacity
from relay_queue.model import Body, Message, Recipient


class Work(msgspec.Struct):
    """One transaction that waits in a lane's window. All its recipients are ACTIVE, i.e. claimed by this worker."""

    message: Message
    recipients: list[Recipient]
    body: Body | None
    """None: read from the queue when the work starts."""
    retried: bool = False
    """The work was put back because a reused session was dead. This happens at most once per work."""

    @property
    def held(self) -> int:
        """Bytes of memory that the work's body uses."""
        return len(self.body.head) if self.body is not None else 0


def split(message: Message, recipients: list[Recipient], body: Body | None, at_most: int) -> Iterator[Work]:
    """Yield works of at most `at_most` recipients each (RFC 5321 §4.5.3.1.8: servers must accept at least 100)."""
    for start in range(0, len(recipients), at_most):
        yield Work(message, recipients[start : start + at_most], body)


def fit(work: Work, capacity: Capacity) -> tuple[Work, Work | None]:
    """Split a work: return the part within the peer's limits for one transaction, and the rest (None if empty)."""
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
