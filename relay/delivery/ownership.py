"""Determines which workers serve a lane, and which part of its limits each of them gets.

Rendezvous hashing (Thaler and Ravishankar, 1998): every worker computes the same order of workers for a lane's name
without communicating, and a change in the number of workers moves as few lanes as possible. A busy lane is split into
*shares*, one per worker, whose limits add up to the lane's limits. Each share's connections and rate are plain state of
one event loop, so no locking is needed, and most mail is delivered by the worker that accepted it.
"""

import hashlib
from functools import lru_cache

from relay_config.schema import Lane
from relay_config.words import Rate

_CONNECTIONS_PER_SHARE = 4
"""Fewest connections per share. A lane with few connections is served better by a single owner."""
_RATE_PER_SHARE = 10.0
"""Lowest rate per share, in messages per second. Below it, rounding would distort a share's rate."""


@lru_cache(maxsize=50_000)
def ranking(name: str, workers: int) -> tuple[int, ...]:
    """Return all workers' slot numbers in rank order; the lane's first owner comes first."""
    digests = (
        (hashlib.blake2b(b"%d/%s" % (slot, name.encode()), digest_size=8).digest(), slot) for slot in range(workers)
    )
    return tuple(slot for _, slot in sorted(digests))


def shares(limits: Lane, workers: int) -> int:
    """Return how many workers share a lane with these limits."""
    count = min(workers, limits.max_connections // _CONNECTIONS_PER_SHARE)
    for rate, least in ((limits.rate, _RATE_PER_SHARE), (limits.connection_rate, 1.0)):
        if rate.amount:
            count = min(count, int(rate.amount / rate.seconds / least))
    return max(1, count)


def owners(name: str, limits: Lane, workers: int) -> tuple[int, ...]:
    """Return the slots that own a share of the lane, in rank order."""
    return ranking(name, workers)[: shares(limits, workers)]


def share_of(limits: Lane, rank: int, count: int) -> Lane:
    """Return the limits of the share with this rank among `count`. All shares together never exceed the limits."""
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
