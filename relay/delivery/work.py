"""What a lane works on: one message for some of its recipients, one transaction."""

from collections.abc import Iterator

import msgspec

from relay.smtp.client.features import Features
from relay_queue.model import Body, Message, Recipient


class Work(msgspec.Struct):
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


def cut(work: Work, features: Features) -> Work | None:
    """Leave what the peer takes in one transaction (LIMITS, RFC 9422); what is over becomes a work of its own."""
    if features.rcpt_max is None and features.rcpt_domain_max is None:
        return None
    most = features.rcpt_max or len(work.recipients)
    most_domains = features.rcpt_domain_max or most
    taken: list[Recipient] = []
    over: list[Recipient] = []
    domains: set[str] = set()
    for recipient in work.recipients:
        fits = recipient.domain in domains or len(domains) < most_domains
        if fits and len(taken) < most:
            taken.append(recipient)
            domains.add(recipient.domain)
        else:
            over.append(recipient)
    work.recipients = taken
    return Work(work.message, over, work.body, work.retried) if over else None
