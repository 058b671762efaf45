"""One submission's envelope: the reverse-path, the forward-paths and their parameters (RFC 5321 section 3.3)."""

import msgspec


class RecipientPath(msgspec.Struct):
    """One accepted RCPT."""

    address: str
    """`local@domain` without brackets."""
    domain: str
    """Lower-case A-label, or an address literal with brackets."""
    notify: str | None = None
    """NOTIFY of RCPT: NEVER, or a comma list in upper case (RFC 3461 §4.1)."""
    orcpt: str | None = None
    """ORCPT of RCPT: `type;xtext` as sent (RFC 3461 §4.2)."""

    @property
    def mailbox(self) -> str:
        """The address in the form used for comparisons: equal for addresses that differ only in the domain's spelling.

        The local part is case-sensitive (RFC 5321 §2.4).
        """
        return f"{self.address.rpartition('@')[0]}@{self.domain}"


class Transaction(msgspec.Struct):
    """One mail transaction: MAIL, its RCPTs, its content."""

    sender: str
    """Empty for `<>`."""
    sender_domain: str
    """Lower-case A-label, or an address literal with brackets; empty for `<>`."""
    declared_size: int | None = None
    """SIZE of MAIL, in octets (RFC 1870)."""
    eightbit: bool = False
    """BODY=8BITMIME was given with MAIL (RFC 6152); BINARYMIME is refused."""
    smtputf8: bool = False
    """SMTPUTF8 was given with MAIL (RFC 6531)."""
    ret: str | None = None
    """RET of MAIL: FULL or HDRS (RFC 3461 §4.3)."""
    envid: str | None = None
    """ENVID of MAIL, in xtext as sent (RFC 3461 §4.4)."""
    recipients: list[RecipientPath] = msgspec.field(default_factory=list)
    """Without duplicates, in the order of their first RCPT."""
    mailboxes: set[str] = msgspec.field(default_factory=set)
    """`RecipientPath.mailbox` of each recipient."""
    repeated: int = 0
    """Number of RCPTs that repeated an accepted recipient."""
