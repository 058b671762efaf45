"""Which sender addresses a user may use, in the envelope and in From. Pure."""

from functools import lru_cache
from typing import Final

from relay.smtp.address import canonical_local

_KELVIN: Final = "\u212a"
"""The one letter outside ASCII that is ASCII in lower case."""


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
        """Whether the user may be `address`, whose domain in lower-case A-labels is `domain`.

        A domain stands for itself, not for those below it. Case makes no difference: `Alice@` and `alice@` are one
        mailbox everywhere that matters. The address is compared by the one form of its local part and of its domain,
        never by their spelling.
        """
        if self.any or domain in self._domains:
            return True
        return _mailbox(address.rpartition("@")[0], domain) in self._addresses


def _mailbox(local: str, domain: str) -> str:
    return f"{_lower(canonical_local(local))}@{domain}"


def _lower(text: str) -> str:
    """In lower case; not where that would make the Kelvin sign, another mailbox's letter, a k of ours."""
    return text if _KELVIN in text else text.lower()


@lru_cache(maxsize=1024)
def policy(senders: tuple[str, ...]) -> SenderPolicy:
    """The policy of an identity, compiled once."""
    return SenderPolicy(senders)
