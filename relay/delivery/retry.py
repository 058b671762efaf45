"""Computes the time of the next attempt from the number of attempts, the message's age and the time.

Pure functions: they do not sleep and read neither a clock nor a random source; the caller passes both in.
"""

from dataclasses import dataclass
from itertools import accumulate

from relay.delivery.lane import PAUSE_JITTER
from relay_config.schema import Retry, Settings

_LEAST_LATEST = 600.0
"""Seconds. This is longer than untried mail waits (mail of a suspended user becomes due again after 300 s), and longer
than usual clock corrections."""


@dataclass(slots=True, frozen=True)
class Decision:
    """The decision after a temporary failure."""

    due_at: float | None
    """When to try again, in seconds since the epoch; None: the message has expired."""
    delay_notice: bool
    """The message is late enough for a delay DSN. Whether the sender wants one is decided elsewhere."""


def decide(retry: Retry, *, attempts: int, received_at: float, now: float, random: float) -> Decision:
    """Decide after the `attempts`-th attempt (from 1) failed temporarily; `random` lies in [0, 1).

    The last attempt is made at the time of expiry, so a message never expires because of an old failure. Expiry also
    requires as many attempts as the schedule has until then: after a long outage of the relay, or after the clock
    jumped ahead, mail is still tried several times before it is returned.
    """
    age = now - received_at
    if age >= retry.expire_after and attempts >= _attempts_before_expiry(retry):
        return Decision(due_at=None, delay_notice=False)
    wait = retry.schedule[min(attempts, len(retry.schedule)) - 1] * (1 + retry.jitter * (2 * random - 1))
    due_at = now + wait
    expires_at = received_at + retry.expire_after
    if now < expires_at < due_at:
        due_at = expires_at
    return Decision(due_at=due_at, delay_notice=age >= retry.delay_notice_after)


def _attempts_before_expiry(retry: Retry) -> int:
    """Return the attempts that the schedule certainly makes before expiry, at least two.

    At least two, because the clock may have jumped during the first attempt.
    """
    longest = accumulate(wait * (1 + retry.jitter) for wait in retry.schedule)
    return max(2, 1 + sum(1 for age in longest if age <= retry.expire_after))


def latest(settings: Settings, now: float) -> tuple[float, float]:
    """Return the latest plausible due times: for recipients that were never tried, and for all others.

    Later due times were set before the clock was set back, under settings with longer waits, or by a message's own
    `not_before`, which the queue does not change.
    """
    throttle = settings.throttle
    overrides = (*throttle.site.values(), *throttle.domain.values())
    pause = max([throttle.backoff_max, *(override.backoff_max or 0.0 for override in overrides)])
    wait = max(settings.retry.schedule) * (1 + settings.retry.jitter)
    return now + _LEAST_LATEST, now + max(_LEAST_LATEST, wait, pause * (1 + PAUSE_JITTER))
