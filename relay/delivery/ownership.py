"""Which workers serve a lane, and with which part of its limits.

Rendezvous hashing (Thaler and Ravishankar, 1998): every worker computes the same order of workers for a lane's name
without talking to the others, and a change of their number moves as few lanes as possible. A busy lane is split in
*shares*, one per worker, whose limits add up to the lane's: each share's connections and rate are plain state of one
event loop, and mail accepted by a worker usually leaves through the same one.
"""

import hashlib
from functools import lru_cache

from relay_config.schema import Lane
from relay_config.words import Rate

_CONNECTIONS_PER_SHARE = 4
"""A lane is not split below this many connections a share: a small lane is better served by one owner."""
_RATE_PER_SHARE = 10.0
"""Nor below this many messages or connections a second, where the rounding of a share's rate would show."""


@lru_cache(maxsize=50_000)
def ranking(name: str, workers: int) -> tuple[int, ...]:
    """All workers' slot numbers, the lane's first owner first."""
    digests = (
        (hashlib.blake2b(b"%d/%s" % (slot, name.encode()), digest_size=8).digest(), slot) for slot in range(workers)
    )
    return tuple(slot for _, slot in sorted(digests))


def shares(limits: Lane, workers: int) -> int:
    """How many workers share a lane of these limits."""
    count = min(workers, limits.max_connections // _CONNECTIONS_PER_SHARE)
    for rate, least in ((limits.rate, _RATE_PER_SHARE), (limits.connection_rate, 1.0)):
        if rate.amount:
            count = min(count, int(rate.amount / rate.seconds / least))
    return max(1, count)


def owners(name: str, limits: Lane, workers: int) -> tuple[int, ...]:
    """The slots that own a share of the lane, in rank order."""
    return ranking(name, workers)[: shares(limits, workers)]


def share_of(limits: Lane, rank: int, count: int) -> Lane:
    """The limits of the share with this rank among `count`; all shares together never exceed the whole."""
    if count == 1:
        return limits
    return Lane(
        max_connections=_part(limits.max_connections, rank, count),
        messages_per_connection=limits.messages_per_connection,
        rate=_rate_part(limits.rate, rank, count),
        connection_rate=_rate_part(limits.connection_rate, rank, count),
        backoff=limits.backoff,
        backoff_max=limits.backoff_max,
    )


def _part(whole: int, rank: int, count: int) -> int:
    return whole // count + (1 if rank < whole % count else 0)


def _rate_part(rate: Rate, rank: int, count: int) -> Rate:
    if rate.amount == 0:
        return rate
    return Rate(_part(rate.amount, rank, count), rate.seconds)
