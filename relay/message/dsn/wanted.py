"""Whether a notification is due (RFC 3461 §4.1 and §5.2). Pure."""

from typing import Literal

from relay_queue.model import Message, Recipient

Kind = Literal["failure", "delay", "success"]
FULL_MAX = 1 << 20
"""Bytes of the largest message that is returned whole. Of larger ones the header is: RFC 3461 §4.3 leaves it to us."""


def returned_whole(kind: str, message: Message) -> bool:
    """Whether the notification is to hold the whole message. RET concerns reports of failure only (RFC 3461 §4.3)."""
    return kind == "failure" and message.ret == "FULL" and message.size <= FULL_MAX


def wanted(kind: str, recipient: Recipient, message: Message) -> bool:
    """Whether the sender is told that this recipient failed, is late, or was relayed to a server without DSN.

    Never for the null sender: a bounce is never bounced (RFC 5321 §4.5.5). Without NOTIFY the sender is told of
    failures; of delays only when asked, as RFC 3461 §4.1 allows: most people take a delay notice for a failure.
    """
    if not message.sender or recipient.notify == "NEVER":
        return False
    if recipient.notify is None:
        return kind == "failure"
    return kind.upper() in recipient.notify.upper().split(",")
