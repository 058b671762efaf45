"""The rules of `[[reply_rule]]`: which one decides, and what it changes."""

import pytest

from relay.delivery.outcome import Disposition
from relay.delivery.reply_settings import Origin, ReplyRules, origin_of
from relay.delivery.routes import Route
from relay.delivery.smtp_outcome import judge_reply
from relay.smtp.client.model import TlsPolicy
from relay.smtp.reply import Reply
from relay_config.schema import Route as Smarthost
from relay_config.schema_replies import ReplyRule
from relay_config.words import Duration

THERE = Origin("mx1.example.test,mx2.example.test", ("mx1.example.test", "mx2.example.test"), "sub.example.org")
FULL = Reply(550, "5.7.1", "Sorry, the limit of today is reached")


def judged(reply, *rules, origin=THERE):
    return judge_reply(reply, ReplyRules(tuple(ReplyRule(**rule) for rule in rules)), origin)


def test_a_rule_makes_a_permanent_refusal_temporary_and_pauses_the_lane():
    outcome = judged(
        FULL, {"pattern": "limit of today", "failure": "throttled", "disposition": "temporary", "pause": Duration(600)}
    )
    assert (outcome.disposition, outcome.failure) == (Disposition.TEMPORARY, "throttled")
    assert (outcome.lane_fault, outcome.pause) == (True, 600.0)
    assert (outcome.rule, outcome.enhanced) == ("reply_rule[0]", "4.7.1")
    assert outcome.text == "550 5.7.1 Sorry, the limit of today is reached"


def test_a_rule_makes_a_temporary_refusal_permanent():
    outcome = judged(
        Reply(450, "4.7.1", "Client host [192.0.2.1] blocked"), {"pattern": "blocked", "disposition": "permanent"}
    )
    assert (outcome.disposition, outcome.failure) == (Disposition.PERMANENT, "reputation")
    assert not outcome.lane_fault
    assert outcome.enhanced == "5.7.1"


def test_what_a_rule_leaves_open_is_as_without_it():
    plain = judged(FULL)
    outcome = judged(FULL, {"pattern": "today", "failure": "content"})
    assert outcome.failure == "content"
    assert (outcome.disposition, outcome.lane_fault) == (plain.disposition, plain.lane_fault)


def test_the_first_that_matches_decides():
    rules = [
        {"pattern": "nothing like it", "failure": "dns"},
        {"pattern": "TODAY", "failure": "size"},
        {"pattern": "", "failure": "tls"},
    ]
    assert judged(FULL, *rules[:2], {"pattern": "today", "failure": "tls"}).failure == "size"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("^550 5.7.1 sorry", True),
        ("^550 sorry", False),
        ("sorry.*limit.*reached", True),
        ("reached.*limit", False),
        ("limit|nothing", True),
        ("nothing|TODAY is", True),
        ("reached$", True),
    ],
)
def test_a_pattern_sees_code_enhanced_code_and_text(pattern, matches):
    assert (judged(FULL, {"pattern": pattern, "failure": "size"}).failure == "size") is matches


def test_lines_are_joined():
    assert judged(Reply(550, "", "one\ntwo"), {"pattern": "^550 one two$", "failure": "size"}).failure == "size"


@pytest.mark.parametrize(
    ("where", "applies"),
    [
        ({"site": "*.example.test"}, True),
        ({"site": "mx2.example.test"}, True),
        ({"site": "*.other.test"}, False),
        ({"domain": "*.example.org"}, True),
        ({"domain": "example.org"}, False),
        ({"site": "*.example.test", "domain": "*.example.org"}, True),
        ({"site": "*.example.test", "domain": "other.test"}, False),
    ],
)
def test_a_rule_may_be_for_a_site_or_a_domain(where, applies):
    outcome = judged(FULL, {"pattern": "today", "failure": "size", **where})
    assert (outcome.failure == "size") is applies


def test_a_smarthost_is_named_with_its_port():
    smarthost = Smarthost(domains=("*",), relay_host="smtp.example.net:587", user="u", password_file="f")
    route = Route("smtp.example.net:587", (("smtp.example.net",),), 587, TlsPolicy.VERIFY, smarthost)
    origin = origin_of(route, "x.test")
    assert (
        judged(FULL, {"pattern": "today", "failure": "size", "site": "smtp.example.net:587"}, origin=origin).failure
        == "size"
    )
    assert origin.credentials


@pytest.mark.parametrize("code", [200, 250, 299])
def test_a_delivery_is_never_matched(code):
    outcome = judged(Reply(code, "2.0.0", "today"), {"pattern": ".*", "failure": "size", "disposition": "permanent"})
    assert outcome.disposition is Disposition.DELIVERED


def test_a_421_pauses_whatever_a_rule_says():
    assert judged(Reply(421, "4.3.2", "today"), {"pattern": "today", "failure": "other"}).lane_fault


@pytest.mark.parametrize(
    ("credentials", "disposition"), [(True, Disposition.TEMPORARY), (False, Disposition.PERMANENT)]
)
def test_refused_credentials_are_ours_only_where_we_have_some(credentials, disposition):
    reply = Reply(550, "5.7.8", "Authentication credentials invalid")
    assert judge_reply(reply, ReplyRules(), Origin(credentials=credentials)).disposition is disposition
