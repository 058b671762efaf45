"""The classes of delivery failure."""

import enum


class FailureClass(enum.StrEnum):
    """Failure classes, explained in `docs/reference/reply-classes.md`. Never change a value: the queue stores it."""

    GREYLISTED = "greylisted"
    THROTTLED = "throttled"
    MAILBOX_FULL = "mailbox_full"
    UNKNOWN_USER = "unknown_user"
    POLICY = "policy"
    REPUTATION = "reputation"
    SIZE = "size"
    CONTENT = "content"
    DNS = "dns"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    TLS = "tls"
    AUTH = "auth"
    PROTOCOL = "protocol"
    RELAY_DENIED = "relay_denied"
    LOCAL = "local"
    OTHER = "other"
