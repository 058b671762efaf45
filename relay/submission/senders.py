"""The sender addresses that a user may use, in the envelope and in From. Pure."""

from functools import lru_cache
from typing import Final

from relay.smtp.address import canonical_local

_KELVIN: Final = "\u212a"
"""The Kelvin sign, the only non-ASCII letter whose lower case is ASCII (k)."""


class SenderPolicy:
    """The list of a user's senders: addresses, domains, or `*`. An empty list allows none."""

    __slots__ = ("_addresses", "_domains", "any")

    def __init__(self, senders: tuple[str, ...]) -> None:
        self.any = "*" in senders
        """Every sender is allowed."""
        self._addresses = frozenset(
            _mailbox(local, _lower(domain))
            for local, at, domain in (sender.rpartition("@") for sender in senders)
            if at
        )
        self._domains = frozenset(_lower(sender) for sender in senders if "@" not in sender)

    def allows(self, address: str, domain: str) -> bool:
        """Whether the user may send as `address`, whose domain in lower-case A-labels is `domain`.

        An allowed domain does not include its subdomains. Case is ignored, because `Alice@` and `alice@` are the same
        mailbox on practically all servers. Local part and domain are compared in canonical form, not as written.
        """
        if self.any or domain in self._domains:
            return True
        return _mailbox(address.rpartition("@")[0], domain) in self._addresses


def _mailbox(local: str, domain: str) -> str:
    return f"{_lower(canonical_local(local))}@{domain}"


def _lower(text: str) -> str:
    """Convert to lower case, except text with the Kelvin sign, which would become a k and match another mailbox."""
    return text if _KELVIN in text else text.lower()


@lru_cache(maxsize=1024)
def policy(senders: tuple[str, ...]) -> SenderPolicy:
    """The policy for an identity's senders; cached."""
    return SenderPolicy(senders)
