"""Which sender addresses a user may use, in the envelope and in From. Pure."""

from functools import lru_cache
from typing import Final

_KELVIN: Final = "\u212a"
"""The one letter outside ASCII that is ASCII in lower case."""


class SenderPolicy:
    """The list of a user's senders: addresses, domains, or `*`. An empty list allows none."""

    __slots__ = ("_addresses", "_domains", "any")

    def __init__(self, senders: tuple[str, ...]) -> None:
        self.any = "*" in senders
        """Every sender is allowed."""
        lowered = [_lower(sender) for sender in senders]
        self._addresses = frozenset(sender for sender in lowered if "@" in sender)
        self._domains = frozenset(sender for sender in lowered if "@" not in sender)

    def allows(self, address: str, domain: str) -> bool:
        """Whether the user may be `address`, whose domain in lower-case A-labels is `domain`.

        A domain stands for itself, not for those below it. Case makes no difference: `Alice@` and `alice@` are one
        mailbox everywhere that matters. The address is compared by its domain's one form, never by its spelling.
        """
        if self.any or domain in self._domains:
            return True
        local = _lower(address.rpartition("@")[0])
        return f"{local}@{domain}" in self._addresses


def _lower(text: str) -> str:
    """In lower case; not where that would make the Kelvin sign, another mailbox's letter, a k of ours."""
    return text if _KELVIN in text else text.lower()


@lru_cache(maxsize=1024)
def policy(senders: tuple[str, ...]) -> SenderPolicy:
    """The policy of an identity, compiled once."""
    return SenderPolicy(senders)
