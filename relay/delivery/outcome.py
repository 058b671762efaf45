"""From what a peer said, or how a session broke, to what it means: pure, and the same for every lane.

Two questions are kept apart. *Disposition*: was the recipient taken, shall we try again, or is it over? That follows
the reply's code (RFC 5321 §4.2.1), with the exceptions below. *Failure*: in which class does it fall? That is for
people, for statistics and for the lane's back-off; it comes from the words, the enhanced code and the code, by the
rules in `reply_rules.toml`. Rules of the settings (`reply_settings`) come before both.

Exceptions, each towards trying again (docs/decisions/0004-what-a-refusal-means.md has the reasons):

- a refusal before MAIL (greeting, EHLO, STARTTLS, AUTH), even a 5xx, is about us or the host, not about the message;
- 530, 534, 535 and 538, and X.7.8 where we authenticate, are faults of our settings, which can be corrected;
- 503 means that the peer lost track of the session, which another session may cure;
- a few limits per hour or connection that their provider answers with 550 (`disposition` in `reply_rules.toml`);
- whatever is not understood is temporary.
"""

import enum
from typing import Final, get_args

import msgspec

from relay.delivery.reply_rules import Finding, find, subject_of
from relay.delivery.reply_settings import Origin, ReplyRules
from relay.delivery.routes import RouteError
from relay.smtp.client.model import SessionError, Stage
from relay.smtp.reply import Reply
from relay_config.schema_replies import FailureClass, ReplyRule

_TEXT_LIMIT: Final = 1000
_NO_RULES: Final = ReplyRules()
_ANYWHERE: Final = Origin()

FAILURES: Final[frozenset[str]] = frozenset(get_args(FailureClass))
"""All classes of failure; `docs/reference/reply-classes.md` explains each."""

_BEFORE_MAIL: Final = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.STARTTLS, Stage.AUTH})
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
    """The enhanced status code where there is one; its class agrees with the disposition."""
    rule: str = ""
    """Which rule decided about a refusal."""
    pause: float = 0.0
    """Seconds that the lane should pause; 0: as its back-off has it."""


def judge_reply(reply: Reply, rules: ReplyRules = _NO_RULES, origin: Origin = _ANYWHERE) -> Outcome:
    """The outcome of a recipient's final reply. Only a 2xx is a delivery."""
    if len(reply.text) > 2 * _TEXT_LIMIT:
        reply = Reply(reply.code, reply.enhanced, reply.text[:_TEXT_LIMIT])
    text = str(reply)[:_TEXT_LIMIT]
    if 200 <= reply.code < 300:
        return Outcome(Disposition.DELIVERED, None, text, enhanced=reply.enhanced)
    finding = _finding(reply, origin)
    permanent = reply.permanent and not finding.temporary and reply.code != 503
    own = rules.find(reply, origin)
    if own is not None:
        return _by_settings(reply, text, finding, own, permanent=permanent)
    return Outcome(
        Disposition.PERMANENT if permanent else Disposition.TEMPORARY,
        finding.failure,
        text,
        lane_fault=not permanent and _concerns_lane(reply, finding),
        enhanced=_enhanced(reply, permanent=permanent),
        rule=finding.rule,
    )


def _by_settings(reply: Reply, text: str, finding: Finding, own: tuple[str, ReplyRule], *, permanent: bool) -> Outcome:
    """The outcome that a rule of the settings gives; what it leaves open is as the built-in rules have it."""
    name, rule = own
    if rule.disposition is not None:
        permanent = rule.disposition == "permanent"
    return Outcome(
        Disposition.PERMANENT if permanent else Disposition.TEMPORARY,
        rule.failure or finding.failure,
        text,
        lane_fault=reply.code == 421 or (not permanent and (rule.pause is not None or _concerns_lane(reply, finding))),
        enhanced=_enhanced(reply, permanent=permanent),
        rule=name,
        pause=float(rule.pause or 0.0),
    )


def judge_error(error: SessionError) -> Outcome:
    """The outcome for recipients without a reply of their own when the session broke: always temporary."""
    reply = error.reply
    text = f"{error.remote}: {error.text}" if error.remote else error.text
    rule = f"refused at {error.stage.name}"
    if reply is None:
        # AUTH without TLS, or without a known mechanism, is named by what has to be mended.
        failure = "auth" if error.stage is Stage.AUTH and error.kind == "protocol" else _KINDS.get(error.kind, "other")
    elif error.stage is Stage.AUTH and reply.code != 421:
        failure = "auth"
    elif error.stage is Stage.STARTTLS:
        failure = "tls"
    else:
        finding = _finding(reply, _ANYWHERE)
        failure, rule = finding.failure, finding.rule
    return Outcome(
        Disposition.TEMPORARY,
        failure,
        text[:_TEXT_LIMIT],
        lane_fault=_breaks_lane(error),
        enhanced=_enhanced(reply, permanent=False) if reply is not None and reply.temporary else "",
        rule=rule,
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
    """The failure class of a 4xx or 5xx reply, by the built-in rules."""
    return _finding(reply, _ANYWHERE).failure


def _finding(reply: Reply, origin: Origin) -> Finding:
    detail = reply.detail
    if detail == "7.8" and origin.credentials and reply.permanent:
        return Finding("auth", "auth-refused", temporary=True)  # RFC 4954 §6: our password, refused late
    return find(reply.code, detail, subject_of(reply.text))


def _enhanced(reply: Reply, *, permanent: bool) -> str:
    """The enhanced code with the class that the outcome has: RFC 2034 §4 wants both to agree, and some peers do not."""
    detail = reply.detail
    return f"{'5' if permanent else '4'}.{detail}" if detail else ""


def _concerns_lane(reply: Reply, finding: Finding) -> bool:
    """Whether a temporary refusal in a transaction tells the whole lane to slow down.

    Only what is about us, the connection or the rate does; a code that names the mailbox (X.2.Z) or this transaction's
    recipients (X.5.3) says that it is not.
    """
    if reply.code == 421:
        return True
    return finding.pauses and not reply.detail.startswith("2.") and reply.detail != "5.3"


def _breaks_lane(error: SessionError) -> bool:
    """Whether a broken session tells the whole lane to pause.

    Breaking on a message's content does not: a message that makes its receiver stumble must not stop all others.
    """
    if error.kind == "local":
        return False
    if error.reply is not None and error.reply.code == 421:
        return True
    return error.stage in _BEFORE_MAIL or error.stage in (Stage.MAIL, Stage.RCPT, Stage.DATA)
