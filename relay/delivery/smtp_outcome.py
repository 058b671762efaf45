"""Maps SMTP replies and broken sessions to outcomes. Pure functions, independent of the lane's state.

The disposition follows the reply's code (RFC 5321 §4.2.1), with the exceptions below. The failure class follows from
the text, the enhanced code and the code, by the rules in `reply_rules.toml`. Rules of the settings (`reply_settings`)
take precedence over both.

The following refusals are temporary although the code may be 5xx (docs/decisions/0004-what-a-refusal-means.md has the
reasons):

- a refusal before MAIL (greeting, EHLO, STARTTLS, AUTH), because it concerns this relay or the host, not the message;
- 530, 534, 535 and 538, and X.7.8 if the relay authenticates, because the settings are wrong and can be corrected;
- 503, because the peer lost track of the session, and a new session may succeed;
- a few limits per hour or connection that providers report with 550 (`disposition` in `reply_rules.toml`);
- everything that is not understood.
"""

from typing import Final

from relay.delivery.failure import FailureClass
from relay.delivery.outcome import TEXT_LIMIT, Disposition, Outcome
from relay.delivery.reply_rules import Finding, find, subject_of
from relay.delivery.reply_settings import Origin, ReplyRules
from relay.smtp.client.model import SessionError, Stage
from relay.smtp.reply import Reply
from relay_config.schema_replies import ReplyRule

_NO_RULES: Final = ReplyRules()
_ANYWHERE: Final = Origin()

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


def judge_reply(reply: Reply, rules: ReplyRules = _NO_RULES, origin: Origin = _ANYWHERE) -> Outcome:
    """Return the outcome for a recipient's final reply. Only a 2xx is a delivery."""
    if len(reply.text) > 2 * TEXT_LIMIT:
        reply = Reply(reply.code, reply.enhanced, reply.text[:TEXT_LIMIT])
    text = str(reply)[:TEXT_LIMIT]
    if 200 <= reply.code < 300:
        return Outcome(Disposition.DELIVERED, None, text, enhanced=reply.enhanced, answered=True)
    finding = _finding(reply, origin)
    permanent = reply.permanent and not finding.temporary and reply.code != 503
    own = rules.find(reply, origin)
    if own is not None:
        return _by_settings(reply, text, finding, own, permanent=permanent)
    return Outcome(
        Disposition.PERMANENT if permanent else Disposition.TEMPORARY,
        FailureClass(finding.failure),
        text,
        lane_fault=not permanent and _concerns_lane(reply, finding),
        enhanced=_enhanced(reply, permanent=permanent),
        rule=finding.rule,
        answered=True,
    )


def _by_settings(reply: Reply, text: str, finding: Finding, own: tuple[str, ReplyRule], *, permanent: bool) -> Outcome:
    """Return the outcome by a rule of the settings; the built-in rules decide what it leaves open."""
    name, rule = own
    if rule.disposition is not None:
        permanent = rule.disposition == "permanent"
    return Outcome(
        Disposition.PERMANENT if permanent else Disposition.TEMPORARY,
        FailureClass(rule.failure or finding.failure),
        text,
        lane_fault=reply.code == 421 or (not permanent and (rule.pause is not None or _concerns_lane(reply, finding))),
        enhanced=_enhanced(reply, permanent=permanent),
        rule=name,
        pause=float(rule.pause or 0.0),
        answered=True,
    )


def judge_error(error: SessionError) -> Outcome:
    """Return the outcome for recipients without their own reply after the session broke; always temporary."""
    reply = error.reply
    text = f"{error.remote}: {error.text}" if error.remote else error.text
    rule = f"refused at {error.stage.name}"
    if reply is None:
        # The class names what to correct: `tls` for AUTH without TLS, `auth` for AUTH without a known mechanism.
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
        FailureClass(failure),
        text[:TEXT_LIMIT],
        lane_fault=_breaks_lane(error),
        enhanced=_enhanced(reply, permanent=False) if reply is not None and reply.temporary else "",
        rule=rule,
        answered=reply is not None,
    )


def tries_next_host(error: SessionError) -> bool:
    """Whether to try another address or MX after a failure to connect (RFC 5321 §5.1).

    Not after refused credentials: they would be refused again, and too many failures lock the account. Not after a
    local failure either, because another address cannot help.
    """
    if error.kind == "local":
        return False
    return not (error.stage is Stage.AUTH and error.kind in ("reply", "tls", "protocol"))


def classify(reply: Reply) -> str:
    """Return the failure class of a 4xx or 5xx reply by the built-in rules."""
    return _finding(reply, _ANYWHERE).failure


def _finding(reply: Reply, origin: Origin) -> Finding:
    detail = reply.detail
    if detail == "7.8" and origin.credentials and reply.permanent:
        return Finding("auth", "auth-refused", temporary=True)  # RFC 4954 §6: bad credentials, reported late
    return find(reply.code, detail, subject_of(reply.text))


def _enhanced(reply: Reply, *, permanent: bool) -> str:
    """Return the enhanced code with the outcome's class: RFC 2034 §4 requires both to agree, but some peers differ."""
    detail = reply.detail
    return f"{'5' if permanent else '4'}.{detail}" if detail else ""


def _concerns_lane(reply: Reply, finding: Finding) -> bool:
    """Whether a temporary refusal in a transaction should pause the whole lane.

    Only refusals that concern this relay, the connection or the rate do. A code that names the mailbox (X.2.Z) or the
    number of recipients (X.5.3) shows that the refusal does not.
    """
    if reply.code == 421:
        return True
    return finding.pauses and not reply.detail.startswith("2.") and reply.detail != "5.3"


def _breaks_lane(error: SessionError) -> bool:
    """Whether a broken session should pause the whole lane.

    A session that broke while sending content does not: one message that crashes its receiver must not stop others.
    """
    if error.kind == "local":
        return False
    if error.reply is not None and error.reply.code == 421:
        return True
    return error.stage in _BEFORE_MAIL or error.stage in (Stage.MAIL, Stage.RCPT, Stage.DATA)
