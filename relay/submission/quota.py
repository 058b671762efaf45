"""How much each user sent in the last hour, in sixty minutes' steps: exact to a minute, over all workers.

Times are given, never read; what is counted lies in `relay.submission.counts`.
"""

from relay.submission.counts import Counts, SharedCounts

_STEP = 60.0
_STEPS = 60
_USERS = 16_384
"""Users of the last hour that each worker can count."""


def shared_usage(workers: int) -> SharedCounts:
    """The memory for quotas, made before the workers are; it takes room only for those that are counted."""
    # Two keys for each user.
    return SharedCounts(workers, 2 * _USERS, _STEPS)


class Quota:
    """Counters by user."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def add(self, user: str, messages: int, recipients: int, now: float) -> None:
        """Count what is to be accepted from `user`; negative numbers take it back."""
        step = int(now // _STEP)
        self._counts.add(_messages(user), messages, step)
        self._counts.add(_recipients(user), recipients, step)

    def messages_wait(self, user: str, more: int, limit: int, now: float) -> float:
        """Seconds until `user` may send so many more messages under `limit` an hour; 0 when now."""
        return self._wait(_messages(user), more, limit, now)

    def recipients_wait(self, user: str, more: int, limit: int, now: float) -> float:
        """Seconds until `user` may send to `more` recipients under `limit` an hour; 0 when now."""
        return self._wait(_recipients(user), more, limit, now)

    def _wait(self, key: str, more: int, limit: int, now: float) -> float:
        """Until enough counts have become older than an hour."""
        steps = self._counts.since(key, int(now // _STEP) - _STEPS + 1)
        excess = sum(count for _, count in steps) + more - limit
        if excess <= 0:
            return 0.0
        for step, count in steps:
            excess -= count
            if excess <= 0:
                return max(1.0, (step + _STEPS) * _STEP - now)
        return _STEP * _STEPS


def _messages(user: str) -> str:
    return f"messages {user}"


def _recipients(user: str) -> str:
    return f"recipients {user}"
