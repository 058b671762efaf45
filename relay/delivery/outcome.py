"""What an attempt means for a recipient, whatever carried it: the words that lanes, marks and reports share.

Two questions are kept apart. *Disposition*: was the recipient accepted, will the relay try again, or is it over?
*Failure class*: what kind of failure was it? Classes are for people, for statistics and for the lane's back-off.
"""

import enum
from typing import Final

import msgspec

from relay.delivery.failure import FailureClass
from relay.delivery.routes import RouteError

TEXT_LIMIT: Final = 1000
"""Characters of an outcome's text."""


class Disposition(enum.Enum):
    """What is to become of a recipient."""

    DELIVERED = "delivered"
    """The peer took responsibility."""
    TEMPORARY = "temporary"
    """To be tried again."""
    PERMANENT = "permanent"
    """Refused for good."""


class Outcome(msgspec.Struct, frozen=True):
    """What an attempt means for one recipient."""

    disposition: Disposition
    failure: FailureClass | None
    """None when delivered."""
    text: str
    """What to record: one printable line, at most 1,000 characters."""
    lane_fault: bool = False
    """It concerns all mail of the lane, which should pause (back-off)."""
    enhanced: str = ""
    """The enhanced status code where there is one (RFC 3463), for the DSN's Status field."""
    answered: bool = False
    """A server said it, so `Report.remote` names who answered for this recipient."""
    rule: str = ""
    """Which rule decided about a refusal."""
    pause: float = 0.0
    """Seconds that the lane should pause; 0: as its back-off has it."""


def judge_route(error: RouteError) -> Outcome:
    """The outcome when there is no route to the recipient's domain."""
    return Outcome(
        Disposition.PERMANENT if error.permanent else Disposition.TEMPORARY,
        error.failure,
        f"{error.enhanced} {error.text}".strip()[:TEXT_LIMIT],
        enhanced=error.enhanced,
    )


def judge_pause(cause: str) -> Outcome:
    """The outcome of mail that was not tried because its lane is paused for `cause`."""
    return Outcome(Disposition.TEMPORARY, FailureClass.CONNECT, f"not tried: {cause}"[:TEXT_LIMIT])


def judge_local(text: str) -> Outcome:
    """The outcome of mail that was not sent because of a fault of the relay's own machine."""
    return Outcome(Disposition.TEMPORARY, FailureClass.LOCAL, text[:TEXT_LIMIT])
