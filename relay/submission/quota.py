"""How much each user sent in the last hour, over all workers, in sixty steps of a minute, so it is exact to a minute.

The caller passes the times; this module reads no clock. The counts are stored in `relay.submission.counts`.
"""

from relay.submission.counts import Counts, SharedCounts

_STEP = 60.0
_STEPS = 60
_USERS = 16_384
"""Number of users in the last hour that each worker can count."""


def shared_usage(workers: int) -> SharedCounts:
    """The shared memory for quotas; create it before the workers are forked. Only used entries take up memory."""
    # Each user has two keys: messages and recipients.
    return SharedCounts(workers, 2 * _USERS, _STEPS)


class Quota:
    """The counts of messages and recipients by user."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def add(self, user: str, messages: int, recipients: int, now: float) -> None:
        """Count messages and recipients from `user`; negative numbers undo an earlier call with the same `now`."""
        step = int(now // _STEP)
        self._counts.add(_messages(user), messages, step)
        self._counts.add(_recipients(user), recipients, step)

    def messages_wait(self, user: str, more: int, limit: int, now: float) -> float:
        """Seconds until `user` may send `more` messages with `limit` per hour; 0 if now."""
        return self._wait(_messages(user), more, limit, now)

    def recipients_wait(self, user: str, more: int, limit: int, now: float) -> float:
        """Seconds until `user` may send to `more` recipients with `limit` per hour; 0 if now."""
        return self._wait(_recipients(user), more, limit, now)

    def _wait(self, key: str, more: int, limit: int, now: float) -> float:
        """Seconds until enough counts are older than an hour."""
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
