"""Decides whether a recipient's address looks damaged. Pure.

Unlike a message's content, an address has no checksum. But it is probably damaged if it does not match its domain, or
if the message's header, which a checksum covers, contains an address that differs in a single byte. Mail to a wrong
address would reach a stranger, so a doubt is enough.
"""

import re
from collections.abc import Collection
from typing import Final

_ADDRESS: Final = re.compile(rb"[^\s<>,;:\"()\x00-\x20]+@[^\s<>,;:\"()\x00-\x20]+")
_LOOKED_AT: Final = 64 << 10
"""Bytes of the header that are searched."""


def doubtful(address: str, domain: str, header: bytes, addresses: Collection[str]) -> bool:
    """Whether an address looks damaged. `addresses` are those of all recipients of the message, including this one."""
    if not address.isprintable():
        return True
    _, at, written = address.rpartition("@")
    if at and address.isascii() and written.lower() != domain.lower():
        return True
    mine, header = address.encode().lower(), header[:_LOOKED_AT].lower()
    if mine in header:
        return False
    known = {each.encode().lower() for each in addresses}
    return any(_close(mine, found) for found in _ADDRESS.findall(header) if found not in known)


def _close(one: bytes, other: bytes) -> bool:
    """Whether exactly one byte differs."""
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
