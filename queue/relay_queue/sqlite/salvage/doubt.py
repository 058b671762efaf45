"""Whether a recipient's address looks damaged. Pure.

Nothing stored with an address proves it, as the checksum proves a content. But a damaged one shows where it no longer
goes with its domain, or where the message's header, which a checksum covers, has the same address but for one octet.
Mail to a wrong address would reach a stranger, so doubts count.
"""

import re
from collections.abc import Collection
from typing import Final

_ADDRESS: Final = re.compile(rb"[^\s<>,;:\"()\x00-\x20]+@[^\s<>,;:\"()\x00-\x20]+")
_LOOKED_AT: Final = 64 << 10
"""Octets of a header."""


def doubtful(address: str, domain: str, header: bytes, addresses: Collection[str]) -> bool:
    """`addresses`: of all recipients of the message, this one included."""
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
    """Whether one octet differs."""
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1
