"""One submission's envelope: the reverse-path, the forward-paths and their parameters (RFC 5321 section 3.3)."""

import msgspec


class RecipientPath(msgspec.Struct):
    """One accepted RCPT."""

    address: str
    domain: str
    """Lower-case A-label, or an address literal with brackets."""
    notify: str | None = None
    orcpt: str | None = None

    @property
    def mailbox(self) -> str:
        """The address for comparing: the same for two that differ only in how their domain is spelled.

        The case of the local part makes a difference (RFC 5321 §2.4).
        """
        return f"{self.address.rpartition('@')[0]}@{self.domain}"


class Transaction(msgspec.Struct):
    """One mail transaction: MAIL, its RCPTs, its content."""

    sender: str
    """Empty for `<>`."""
    sender_domain: str
    declared_size: int | None = None
    eightbit: bool = False
    """BODY=8BITMIME (or BINARYMIME is refused)."""
    smtputf8: bool = False
    ret: str | None = None
    envid: str | None = None
    recipients: list[RecipientPath] = msgspec.field(default_factory=list)
    """Each once, in the order of their first RCPT."""
    mailboxes: set[str] = msgspec.field(default_factory=set)
    """`RecipientPath.mailbox` of each."""
    repeated: int = 0
    """RCPTs that named one of them again."""
