"""Replies as they are really seen, and what each must mean; then broken sessions and missing routes."""

import pytest

from relay.delivery.outcome import Disposition, judge_pause, judge_route
from relay.delivery.routes import RouteError
from relay.delivery.smtp_outcome import classify, judge_error, judge_reply, tries_next_host
from relay.smtp.client.model import SessionError, Stage
from relay.smtp.client.replies import ReplyReader
from relay.smtp.reply import Reply

T, P = Disposition.TEMPORARY, Disposition.PERMANENT
LANE = True

REPLIES = [
    # Gmail
    (
        (
            "421-4.7.0 [192.0.2.1      15] Our system has detected an unusual rate of\n"
            "421-4.7.0 unsolicited mail originating from your IP address. To protect our\n"
            "421 4.7.0 users from spam, mail sent from your IP address has been temporarily rate limited. gsmtp"
        ),
        T,
        "throttled",
        LANE,
    ),
    (
        "421-4.7.28 Gmail has detected an unusual rate of mail originating from your DKIM domain\n421 4.7.28 gsmtp",
        T,
        "throttled",
        LANE,
    ),
    (
        (
            "450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n"
            "450 4.2.1 prevents additional messages from being delivered. gsmtp"
        ),
        T,
        "throttled",
        False,
    ),
    (
        "452-4.2.2 The recipient's inbox is out of storage space. Please direct the\n452 4.2.2 recipient",
        T,
        "mailbox_full",
        False,
    ),
    ("552-5.2.2 The email account that you tried to reach is over quota. gsmtp\n552 5.2.2 x", P, "mailbox_full", False),
    (
        (
            "550-5.1.1 The email account that you tried to reach does not exist. Please try\n"
            "550-5.1.1 double-checking the recipient's email address for typos or\n550 5.1.1 unnecessary spaces. gsmtp"
        ),
        P,
        "unknown_user",
        False,
    ),
    ("550 5.2.1 The email account that you tried to reach is inactive.", P, "unknown_user", False),
    (
        (
            "550-5.7.1 [192.0.2.1] Our system has detected that this message is likely\n"
            "550 5.7.1 unsolicited mail. To reduce the amount of spam sent to Gmail, this message has been blocked."
        ),
        P,
        "content",
        False,
    ),
    (
        (
            "550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n"
            "550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n550 5.7.26 gsmtp"
        ),
        P,
        "policy",
        False,
    ),
    (
        "550-5.7.25 [192.0.2.1] The IP address sending this message does not have a PTR record setup\n550 5.7.25 gsmtp",
        P,
        "reputation",
        False,
    ),
    (
        "552-5.7.0 This message was blocked because its content presents a potential\n552 5.7.0 security issue.",
        P,
        "content",
        False,
    ),
    ("552-5.3.4 Your message exceeded Google's message size limits.\n552 5.3.4 gsmtp", P, "size", False),
    ("530-5.7.0 Must issue a STARTTLS command first.\n530 5.7.0 gsmtp", T, "tls", False),
    ("530-5.7.0 Authentication Required. For more information, go to\n530 5.7.0 gsmtp", T, "auth", False),
    ("535-5.7.8 Username and Password not accepted.\n535 5.7.8 gsmtp", T, "auth", False),
    # Outlook and Exchange Online
    ("451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (AS77712400)", T, "throttled", LANE),
    (
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
        T,
        "throttled",
        LANE,
    ),
    (
        "421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing channel",
        T,
        "throttled",
        LANE,
    ),
    (
        (
            "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. Please contact your Internet service"
            " provider since part of their network is on our block list (S3140)."
        ),
        P,
        "reputation",
        False,
    ),
    ("550 5.7.511 Access denied, banned sender[192.0.2.1].", P, "reputation", False),
    ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", P, "unknown_user", False),
    ("550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", P, "unknown_user", False),
    ("550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", P, "unknown_user", False),
    ("554 5.2.2 mailbox full; STOREDRV.Deliver.Exception:QuotaExceededException", P, "mailbox_full", False),
    ("550 5.7.1 Service unavailable, Client host [192.0.2.1] blocked using Spamhaus.", P, "reputation", False),
    ("550 5.7.64 TenantAttribution; Relay Access Denied", P, "relay_denied", False),
    # Yahoo
    (
        "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume or user complaints",
        T,
        "reputation",
        LANE,
    ),
    (
        "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
        T,
        "reputation",
        LANE,
    ),
    ("554 delivery error: dd This user doesn't have a yahoo.com account (x@yahoo.com) [0]", P, "unknown_user", False),
    ("552 1 Requested mail action aborted, mailbox not found", P, "unknown_user", False),
    ("553 5.7.2 [TSS09] All messages from 192.0.2.1 will be permanently deferred", P, "reputation", False),
    # Postfix
    (
        "450 4.2.0 <x@y.test>: Recipient address rejected: Greylisted, see http://postgrey.test/y.html",
        T,
        "greylisted",
        False,
    ),
    ("450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]", T, "reputation", LANE),
    ("450 4.1.8 <s@ext.test>: Sender address rejected: Domain not found", T, "policy", False),
    ("452 4.3.1 Insufficient system storage", T, "throttled", False),
    ("452 4.5.3 Error: too many recipients", T, "throttled", False),
    ("421 4.7.0 mx.test Error: too many errors", T, "throttled", LANE),
    (
        "550 5.1.1 <x@y.test>: Recipient address rejected: User unknown in local recipient table",
        P,
        "unknown_user",
        False,
    ),
    ("554 5.7.1 <x@y.test>: Relay access denied", P, "relay_denied", False),
    ("454 4.7.1 <x@y.test>: Relay access denied", T, "relay_denied", False),
    (
        (
            "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; "
            "https://www.spamhaus.org/query/ip/192.0.2.1"
        ),
        P,
        "reputation",
        False,
    ),
    ("552 5.3.4 Message size exceeds fixed limit", P, "size", False),
    ("451 4.3.5 Server configuration error", T, "other", False),
    (
        "550 5.7.1 <x@y.test>: Recipient address rejected: Rejected by SPF: 192.0.2.1 is not a designated mailserver",
        P,
        "policy",
        False,
    ),
    # Exim
    ("451 Temporary local problem - please try later", T, "other", False),
    (
        "451-192.0.2.1 is not yet authorized to deliver mail from <s@ext.test>\n451 greylisted; try in 300 s",
        T,
        "greylisted",
        False,
    ),
    ("550 Unrouteable address", P, "unknown_user", False),
    ("550 relay not permitted", P, "relay_denied", False),
    ("421 Too many concurrent SMTP connections; please try again later.", T, "throttled", LANE),
    ("550-Verification failed for <s@ext.test>\n550 Sender verify failed", P, "policy", False),
    # Others
    ("550 No such user here", P, "unknown_user", False),
    ("550 5.1.2 Bad destination system", P, "dns", False),
    ("450 mailbox temporarily locked", T, "other", False),
    ("421 Service not available", T, "throttled", LANE),
    ("503 5.5.1 Bad sequence of commands", T, "protocol", False),
    ("500 5.5.2 Syntax error", P, "protocol", False),
    ("556 5.1.10 Recipient address has null MX", P, "dns", False),
    ("554 Transaction failed", P, "other", False),
    ("553 5.6.7 Non-ASCII addresses not permitted for that sender/recipient", P, "content", False),
    ("554 5.7.7 Message contains a virus", P, "content", False),
    ("450 4.4.5 System congestion", T, "throttled", LANE),
    ("432 4.7.12 A password transition is needed", T, "other", False),
    ("499 something never seen", T, "other", False),
    ("599", P, "other", False),
]


def _reply(text: str) -> Reply:
    (reply,) = ReplyReader().feed(text.replace("\n", "\r\n").encode() + b"\r\n")
    return reply


@pytest.mark.parametrize(("text", "disposition", "failure", "lane"), REPLIES, ids=[row[0][:60] for row in REPLIES])
def test_real_replies(text, disposition, failure, lane):
    outcome = judge_reply(_reply(text))
    assert (outcome.disposition, outcome.failure, outcome.lane_fault) == (disposition, failure, lane)
    assert "\n" not in outcome.text
    assert outcome.text.startswith(text[:3])


@pytest.mark.parametrize("code", [200, 250, 251, 252, 299])
def test_only_2xx_delivers(code):
    outcome = judge_reply(Reply(code, "", "ok"))
    assert outcome.disposition is Disposition.DELIVERED
    assert outcome.failure is None


@pytest.mark.parametrize("code", [*range(300, 400, 7), 354, *range(400, 500, 9), 503])
def test_neither_2xx_nor_5xx_is_temporary(code):
    assert judge_reply(Reply(code, "", "whatever")).disposition is T


def test_the_words_of_a_delivery_do_not_matter():
    assert judge_reply(Reply(250, "2.0.0", "550 5.1.1 user unknown, greylisted")).disposition is Disposition.DELIVERED


def test_greylisting_words_in_a_5xx_are_not_greylisting():
    outcome = judge_reply(Reply(550, "5.7.1", "you are on our greylist"))
    assert outcome.disposition is P
    assert outcome.failure == "policy"


def test_huge_texts_are_no_trouble():
    assert classify(Reply(550, "", "a" * 8_000_000)) == "other"
    assert len(judge_reply(Reply(450, "", "x" * 5000)).text) == 1000


def _error(stage, kind, reply=None):
    return SessionError(stage, kind, "text", reply, "mx.test[192.0.2.1]:25")


ERRORS = [
    # stage, kind, reply, failure, lane, next host
    (Stage.CONNECT, "refused", None, "connect", True, True),
    (Stage.CONNECT, "unreachable", None, "connect", True, True),
    (Stage.CONNECT, "timeout", None, "timeout", True, True),
    (Stage.GREETING, "closed", None, "connect", True, True),
    (Stage.GREETING, "timeout", None, "timeout", True, True),
    (Stage.GREETING, "reply", "554 5.7.1 You are on our blocklist", "reputation", True, True),
    (Stage.GREETING, "reply", "521 mx.test does not accept mail", "other", True, True),
    (Stage.GREETING, "reply", "421 4.3.2 Too many connections", "throttled", True, True),
    (Stage.EHLO, "reply", "550 5.7.1 Access denied", "policy", True, True),
    (Stage.EHLO, "protocol", None, "protocol", True, True),
    (Stage.STARTTLS, "tls", None, "tls", True, True),
    (Stage.STARTTLS, "tls", "454 4.7.0 TLS not available", "tls", True, True),
    (Stage.AUTH, "reply", "535 5.7.8 no", "auth", True, False),
    (Stage.AUTH, "reply", "454 4.7.0 Temporary authentication failure", "auth", True, False),
    (Stage.AUTH, "protocol", None, "auth", True, False),
    (Stage.AUTH, "tls", None, "tls", True, False),
    (Stage.AUTH, "local", None, "local", False, False),
    (Stage.AUTH, "timeout", None, "timeout", True, True),
    (Stage.MAIL, "closed", None, "connect", True, True),
    (Stage.MAIL, "reply", "421 4.4.2 idle", "connect", True, True),
    (Stage.DATA, "timeout", None, "timeout", True, True),
    (Stage.CONTENT, "closed", None, "connect", False, True),
    (Stage.CONTENT, "local", None, "local", False, False),
    (Stage.END, "closed", None, "connect", False, True),
    (Stage.END, "timeout", None, "timeout", False, True),
    (Stage.END, "reply", "421 4.3.0 shutting down", "throttled", True, True),
    (Stage.END, "never heard of", None, "other", False, True),
]


@pytest.mark.parametrize(("stage", "kind", "reply", "failure", "lane", "host"), ERRORS)
def test_broken_sessions(stage, kind, reply, failure, lane, host):
    error = _error(stage, kind, _reply(reply) if reply else None)
    outcome = judge_error(error)
    assert outcome.disposition is T
    assert outcome.failure == failure
    assert outcome.lane_fault is lane
    assert tries_next_host(error) is host
    assert outcome.text == "mx.test[192.0.2.1]:25: text"


@pytest.mark.parametrize("kind", ["timeout", "closed", "protocol", "reply", "local"])
def test_only_an_unanswered_end_is_ambiguous(kind):
    assert _error(Stage.END, kind).ambiguous is (kind != "reply")
    assert not _error(Stage.DATA, kind).ambiguous


def test_a_5xx_before_mail_gives_no_permanent_status():
    outcome = judge_error(_error(Stage.GREETING, "reply", _reply("554 5.7.1 no")))
    assert outcome.disposition is T
    assert outcome.enhanced == ""


@pytest.mark.parametrize(("permanent", "disposition"), [(True, P), (False, T)])
def test_routes(permanent, disposition):
    outcome = judge_route(RouteError(permanent, "5.1.10", "takes no mail"))
    assert outcome.disposition is disposition
    assert (outcome.failure, outcome.text, outcome.enhanced) == ("dns", "5.1.10 takes no mail", "5.1.10")


def test_pauses():
    outcome = judge_pause("connection refused")
    assert outcome.disposition is T
    assert outcome.text == "not tried: connection refused"
    assert not outcome.lane_fault
