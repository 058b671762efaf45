"""When to try again: a pure function of the attempts so far, the message's age and the time.

It never sleeps and reads neither a clock nor a random source; the caller passes both in.
"""

from dataclasses import dataclass
from itertools import accumulate

from relay.delivery.lane import PAUSE_JITTER
from relay_config.schema import Retry, Settings

_LEAST_LATEST = 600.0
"""Seconds. Longer than mail waits that was never tried (that of a suspended user), and longer than the corrections that
clocks usually get."""


@dataclass(slots=True, frozen=True)
class Decision:
    """What follows from a temporary failure."""

    due_at: float | None
    """When to try again (seconds since the epoch); None: give up, the message has expired."""
    delay_notice: bool
    """The message is late enough for a delay DSN (whether one is wanted is not decided here)."""


def decide(retry: Retry, *, attempts: int, received_at: float, now: float, random: float) -> Decision:
    """Decide after the `attempts`-th attempt (from 1) failed temporarily; `random` lies in [0, 1).

    The last attempt is made at the moment of expiry, so a message is never given up because of an old failure. Expiry
    also requires as many attempts as the schedule has until then: after a long outage of the relay itself, or a clock
    that jumped ahead, mail is still tried several times before it is returned.
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
    """The first attempt and one after each wait of the schedule that certainly fits; two at least.

    An attempt may have begun before the clock jumped, so the first one is never the last.
    """
    longest = accumulate(wait * (1 + retry.jitter) for wait in retry.schedule)
    return max(2, 1 + sum(1 for age in longest if age <= retry.expire_after))


def latest(settings: Settings, now: float) -> tuple[float, float]:
    """The latest due times that can have been set by now: for recipients that were never tried, and for the others.

    Later due times come from a clock that has been set back since, from settings with longer waits, or from a message's
    own `not_before`, which the queue leaves alone.
    """
    throttle = settings.throttle
    overrides = (*throttle.site.values(), *throttle.domain.values())
    pause = max([throttle.backoff_max, *(override.backoff_max or 0.0 for override in overrides)])
    wait = max(settings.retry.schedule) * (1 + settings.retry.jitter)
    return now + _LEAST_LATEST, now + max(_LEAST_LATEST, wait, pause * (1 + PAUSE_JITTER))
