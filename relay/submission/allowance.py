"""How much a user may still send in this hour (`limits.messages_per_hour`, `limits.recipients_per_hour`)."""

from relay.model.peer import Identity
from relay.smtp.reply import Reply
from relay.submission import texts
from relay.submission.quota import Quota
from relay_config.schema import Limits


class Allowance:
    """The limits of the settings, applied to what all workers have counted. Times are seconds of one steady clock."""

    __slots__ = ("_quota", "limits")

    def __init__(self, quota: Quota, limits: Limits) -> None:
        self._quota = quota
        self.limits = limits

    @property
    def limited(self) -> bool:
        """Whether the settings limit anything."""
        return bool(self.limits.messages_per_hour or self.limits.recipients_per_hour)

    def charge(self, identity: Identity, recipients: int, now: float) -> Reply | None:
        """Count a message against its user's limits, or refuse it."""
        if not self.limited:
            return None
        # Counted first and checked afterwards: otherwise two messages that arrive at the same time, here or in another
        # worker, could both pass the check before either is counted.
        self._quota.add(identity.user, 1, recipients, now)
        exceeded = self.messages_exceeded(identity, 0, now) or self.recipients_exceeded(identity, 0, now)
        if exceeded is not None:
            self.refund(identity, recipients, now)
        return exceeded

    def refund(self, identity: Identity, recipients: int, now: float) -> None:
        """Take back what `charge` counted at `now`, because the message was not stored after all."""
        self._quota.add(identity.user, -1, -recipients, now)

    def messages_exceeded(self, identity: Identity, more: int, now: float) -> Reply | None:
        """The refusal if the user may not send `more` messages now."""
        limit = self.limits.messages_per_hour
        if not limit:
            return None
        wait = self._quota.messages_wait(identity.user, more, limit, now)
        return texts.messages_exceeded(limit, wait) if wait else None

    def recipients_exceeded(self, identity: Identity, more: int, now: float) -> Reply | None:
        """The refusal if the user may not send to `more` recipients now."""
        limit = self.limits.recipients_per_hour
        if not limit:
            return None
        wait = self._quota.recipients_wait(identity.user, more, limit, now)
        return texts.recipients_exceeded(limit, wait) if wait else None
