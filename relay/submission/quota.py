"""How much each user sent in the last hour, in sixty minutes' steps: exact to a minute, bounded in memory. Pure.

Counts are those of one worker process.
"""

from collections import deque

_STEP = 60.0
_STEPS = 60
_USERS_MAX = 20_000


class _Usage:
    """One user's steps, oldest first."""

    __slots__ = ("messages", "recipients", "steps")

    def __init__(self) -> None:
        self.steps: deque[tuple[int, int, int]] = deque()
        """(number of the step, messages, recipients)."""
        self.messages = 0
        self.recipients = 0

    def expire(self, step: int) -> None:
        """Forget steps more than an hour before `step`."""
        steps = self.steps
        while steps and steps[0][0] <= step - _STEPS:
            _, messages, recipients = steps.popleft()
            self.messages -= messages
            self.recipients -= recipients


class Quota:
    """Counters by user."""

    __slots__ = ("_users",)

    def __init__(self) -> None:
        self._users: dict[str, _Usage] = {}

    def add(self, user: str, messages: int, recipients: int, now: float) -> None:
        """Count what was accepted from `user`."""
        step = int(now // _STEP)
        usage = self._users.get(user)
        if usage is None:
            if len(self._users) >= _USERS_MAX:
                self._prune(step)
            usage = self._users[user] = _Usage()
        usage.expire(step)
        if usage.steps and usage.steps[-1][0] >= step:
            # The clock may have gone back: then the newest step takes it.
            last, so_far, so_far_recipients = usage.steps.pop()
            usage.steps.append((last, so_far + messages, so_far_recipients + recipients))
        else:
            usage.steps.append((step, messages, recipients))
        usage.messages += messages
        usage.recipients += recipients

    def messages_wait(self, user: str, limit: int, now: float) -> float:
        """Seconds until `user` may send one more message under `limit` an hour; 0 when now."""
        usage = self._usage(user, now)
        if usage is None or usage.messages < limit:
            return 0.0
        return self._wait([(step, messages) for step, messages, _ in usage.steps], usage.messages - limit + 1, now)

    def recipients_wait(self, user: str, more: int, limit: int, now: float) -> float:
        """Seconds until `user` may send to `more` recipients under `limit` an hour; 0 when now."""
        usage = self._usage(user, now)
        used = 0 if usage is None else usage.recipients
        if used + more <= limit:
            return 0.0
        steps = [] if usage is None else [(step, recipients) for step, _, recipients in usage.steps]
        return self._wait(steps, used + more - limit, now)

    def _usage(self, user: str, now: float) -> _Usage | None:
        usage = self._users.get(user)
        if usage is not None:
            usage.expire(int(now // _STEP))
        return usage

    @staticmethod
    def _wait(steps: list[tuple[int, int]], excess: int, now: float) -> float:
        """Until so many counts have become older than an hour."""
        for step, count in steps:
            excess -= count
            if excess <= 0:
                return max(1.0, (step + _STEPS) * _STEP - now)
        return _STEP * _STEPS

    def _prune(self, step: int) -> None:
        """Make room: users without use in the last hour go, or else those longest known."""
        for user in list(self._users):
            usage = self._users[user]
            usage.expire(step)
            if not usage.steps:
                del self._users[user]
        for user in list(self._users)[: len(self._users) - _USERS_MAX + 1]:
            del self._users[user]
