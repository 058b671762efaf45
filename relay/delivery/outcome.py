"""From what a peer said, or how a session broke, to what it means: pure, and the same for every lane.

Two questions are kept apart. *Disposition*: was the recipient taken, shall we try again, or is it over? That follows
the reply's code (RFC 5321 §4.2.1), with the exceptions below. *Failure*: in which class does it fall? That is for
people, for statistics and for the lane's back-off; it comes from the words, the enhanced code and the code (`phrases`).

Exceptions, each towards trying again (docs/decisions/0004-what-a-refusal-means.md has the reasons):

- a refusal before MAIL (greeting, EHLO, STARTTLS, AUTH), even a 5xx, is about us or the host, not about the message;
- 530, 534, 535, 538 and whatever else asks for AUTH or TLS is a fault of our settings, and can be mended;
- 503 means that the peer lost track of the session, which another session may cure;
- whatever is not understood is temporary.
"""

import enum
from typing import Final

import msgspec

from relay.delivery.phrases import CODES, ENHANCED, PHRASES, TELLING, TEMPORARY_PHRASES
from relay.delivery.routes import RouteError
from relay.smtp.client.model import SessionError, Stage
from relay.smtp.reply import Reply

_TEXT_LIMIT: Final = 1000

FAILURES: Final[frozenset[str]] = frozenset(
    {
        "greylisted",
        "throttled",
        "mailbox_full",
        "unknown_user",
        "policy",
        "reputation",
        "size",
        "content",
        "dns",
        "connect",
        "timeout",
        "tls",
        "auth",
        "protocol",
        "relay_denied",
        "local",
        "other",
    }
)
"""All classes of failure; `docs/reference` explains each."""

_BEFORE_MAIL: Final = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH})
_OURS: Final = frozenset({"auth", "tls"})
_KINDS: Final[dict[str, str]] = {
    "timeout": "timeout",
    "closed": "connect",
    "refused": "connect",
    "unreachable": "connect",
    "tls": "tls",
    "protocol": "protocol",
    "local": "local",
}


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
    failure: str | None
    """One of `FAILURES`; None when delivered."""
    text: str
    """What to record: one printable line, at most 1,000 characters."""
    lane_fault: bool = False
    """It concerns all mail of the lane, which should pause (back-off)."""
    enhanced: str = ""
    """The enhanced status code where there is one, for the DSN's Status field."""


def judge_reply(reply: Reply) -> Outcome:
    """The outcome of a recipient's final reply. Only a 2xx is a delivery."""
    text = str(reply)[:_TEXT_LIMIT]
    if 200 <= reply.code < 300:
        return Outcome(Disposition.DELIVERED, None, text, enhanced=reply.enhanced)
    failure = classify(reply)
    permanent = reply.permanent and failure not in _OURS and reply.code != 503
    return Outcome(
        Disposition.PERMANENT if permanent else Disposition.TEMPORARY,
        failure,
        text,
        lane_fault=_concerns_lane(reply, failure),
        enhanced=reply.enhanced,
    )


def judge_error(error: SessionError) -> Outcome:
    """The outcome for recipients without a reply of their own when the session broke: always temporary."""
    reply = error.reply
    text = f"{error.remote}: {error.text}" if error.remote else error.text
    if reply is None:
        # AUTH without TLS, or without a known mechanism, is named by what has to be mended.
        failure = "auth" if error.stage is Stage.AUTH and error.kind == "protocol" else _KINDS.get(error.kind, "other")
    elif error.stage is Stage.AUTH and reply.code != 421:
        failure = "auth"
    elif error.stage is Stage.STARTTLS:
        failure = "tls"
    else:
        failure = classify(reply)
    return Outcome(
        Disposition.TEMPORARY,
        failure,
        text[:_TEXT_LIMIT],
        lane_fault=_breaks_lane(error),
        enhanced=reply.enhanced if reply is not None and reply.temporary else "",
    )


def judge_route(error: RouteError) -> Outcome:
    """The outcome when there is no way to the recipient's domain."""
    return Outcome(
        Disposition.PERMANENT if error.permanent else Disposition.TEMPORARY,
        error.failure if error.failure in FAILURES else "other",
        f"{error.enhanced} {error.text}".strip()[:_TEXT_LIMIT],
        enhanced=error.enhanced,
    )


def judge_pause(cause: str) -> Outcome:
    """The outcome of mail that was not tried because its lane is paused for `cause`."""
    return Outcome(Disposition.TEMPORARY, "connect", f"not tried: {cause}"[:_TEXT_LIMIT])


def tries_next_host(error: SessionError) -> bool:
    """Whether a failure to connect is worth another address or MX (RFC 5321 §5.1).

    Refused credentials are not: they would be refused again, and too many failures lock the account. Neither is a fault
    of our own.
    """
    if error.kind == "local":
        return False
    return not (error.stage is Stage.AUTH and error.kind in ("reply", "tls", "protocol"))


def classify(reply: Reply) -> str:
    """The failure class of a 4xx or 5xx reply."""
    words = reply.text.lower()
    if reply.temporary:
        for phrase, failure in TEMPORARY_PHRASES:
            if phrase in words:
                return failure
    detail = reply.enhanced[2:]
    if detail in TELLING:
        return ENHANCED[detail]
    for phrase, failure in PHRASES:
        if phrase in words:
            return failure
    return ENHANCED.get(detail) or CODES.get(reply.code, "other")


def _concerns_lane(reply: Reply, failure: str) -> bool:
    """Whether a reply in a transaction tells the whole lane to slow down.

    Not when the enhanced code names the mailbox (X.2.Z) or this transaction's recipients (X.5.3).
    """
    if reply.code == 421:
        return True
    return failure == "throttled" and reply.temporary and reply.enhanced[2:4] != "2." and reply.enhanced[2:] != "5.3"


def _breaks_lane(error: SessionError) -> bool:
    """Whether a broken session tells the whole lane to pause.

    Breaking on a message's content does not: a message that makes its receiver stumble must not stop all others.
    """
    if error.kind == "local":
        return False
    if error.reply is not None and error.reply.code == 421:
        return True
    return error.stage in _BEFORE_MAIL or error.stage in (Stage.MAIL, Stage.RCPT, Stage.DATA)
