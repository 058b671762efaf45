"""The kinds of failure that the relay tells apart."""

import enum


class FailureClass(enum.StrEnum):
    """Kinds of failure; `docs/reference/reply-classes.md` explains each. Never change a value: it is stored."""

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
