"""Decides whether to send a notification (RFC 3461 §4.1 and §5.2). Pure."""

from typing import Literal

from relay_queue.model import Message, Recipient

Kind = Literal["failure", "delay", "success"]
FULL_MAX = 1 << 20
"""Bytes of the largest message that is returned whole; of larger ones only the header is (allowed by RFC 3461 §4.3)."""


def returned_whole(kind: str, message: Message) -> bool:
    """Whether the notification contains the whole message. RET applies only to failure reports (RFC 3461 §4.3)."""
    return kind == "failure" and message.ret == "FULL" and message.size <= FULL_MAX


def wanted(kind: str, recipient: Recipient, message: Message) -> bool:
    """Whether to notify the sender that this recipient failed, is delayed, or was relayed to a server without DSN.

    The null sender is never notified, as a bounce must not be bounced (RFC 5321 §4.5.5). Without NOTIFY, the sender is
    notified of failures only, as RFC 3461 §4.1 allows, because most people mistake a delay notice for a failure.
    """
    if not message.sender or recipient.notify == "NEVER":
        return False
    if recipient.notify is None:
        return kind == "failure"
    return kind.upper() in recipient.notify.upper().split(",")
