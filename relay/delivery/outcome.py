"""The outcome of an attempt for one recipient, independent of the transport. Lanes, marks and reports share it.

An outcome has two separate parts. The *disposition* says whether the recipient was accepted, will be tried again, or
was refused for good. The *failure class* says what kind of failure it was; administrators, statistics and the lane's
back-off use it.
"""

import enum
from typing import Final

import msgspec

from relay.delivery.failure import FailureClass
from relay.delivery.routes import RouteError

TEXT_LIMIT: Final = 1000
"""Most characters of an outcome's text."""


class Disposition(enum.Enum):
    """Whether a recipient is delivered, will be tried again, or has failed."""

    DELIVERED = "delivered"
    """The peer took responsibility for the message (RFC 5321 §6.1)."""
    TEMPORARY = "temporary"
    """Will be tried again."""
    PERMANENT = "permanent"
    """Refused for good."""


class Outcome(msgspec.Struct, frozen=True):
    """The result of an attempt for one recipient."""

    disposition: Disposition
    failure: FailureClass | None
    """None when delivered."""
    text: str
    """The text to record: one printable line of at most 1,000 characters."""
    lane_fault: bool = False
    """The failure concerns all mail of the lane, so the lane should pause (back-off)."""
    enhanced: str = ""
    """The enhanced status code (RFC 3463) for the DSN's Status field; empty if there is none."""
    answered: bool = False
    """Whether the outcome is a server's reply; then `Report.remote` names that server."""
    rule: str = ""
    """Name of the rule that classified a refusal."""
    pause: float = 0.0
    """Seconds that the lane should pause; 0: use its back-off."""


def judge_route(error: RouteError) -> Outcome:
    """Return the outcome for a recipient whose domain has no route."""
    return Outcome(
        Disposition.PERMANENT if error.permanent else Disposition.TEMPORARY,
        error.failure,
        f"{error.enhanced} {error.text}".strip()[:TEXT_LIMIT],
        enhanced=error.enhanced,
    )


def judge_pause(cause: str) -> Outcome:
    """Return the outcome for mail that was not tried because its lane is paused for `cause`."""
    return Outcome(Disposition.TEMPORARY, FailureClass.CONNECT, f"not tried: {cause}"[:TEXT_LIMIT])


def judge_local(text: str) -> Outcome:
    """Return the outcome for mail that was not sent because of a fault on this machine."""
    return Outcome(Disposition.TEMPORARY, FailureClass.LOCAL, text[:TEXT_LIMIT])
