"""The built-in rules: their examples, a corpus of real replies, and what they cost."""

import time
from typing import get_args

import pytest

from relay.cli.explain import parse
from relay.delivery.failure import FailureClass
from relay.delivery.outcome import Disposition
from relay.delivery.reply_rules import rules, subject_of
from relay.delivery.smtp_outcome import judge_reply
from relay.smtp.reply import Reply
from relay_config.schema_replies import FailureName as Named
from tests.support.reply_corpus import corpus, table
from tests.support.source_tree import ROOT

FILE = rules().file
EXAMPLES = [(rule, example.replace("\n", "\\n")) for rule in FILE.rule for example in rule.example]


@pytest.mark.parametrize(("rule", "example"), EXAMPLES, ids=[f"{rule.name}: {text[:50]}" for rule, text in EXAMPLES])
def test_a_rule_decides_its_examples(rule, example):
    outcome = judge_reply(parse(example))
    assert (outcome.rule, outcome.failure) == (rule.name, rule.failure)
    temporary = example[0] == "4" or rule.disposition == "temporary"
    assert (outcome.disposition is Disposition.TEMPORARY) is temporary
    if outcome.lane_fault:
        assert rule.pauses or example.startswith("421")


def test_every_rule_has_a_name_a_known_class_a_source_and_an_example():
    names = [rule.name for rule in FILE.rule]
    assert len(set(names)) == len(names)
    for rule in FILE.rule:
        assert rule.source, rule.name
        assert rule.example, rule.name
        assert rule.text or rule.link or rule.codes or rule.status, rule.name
    used = {rule.failure for rule in FILE.rule} | set(FILE.status.values()) | set(FILE.code.values())
    assert used <= set(FailureClass)


def test_exceptions_to_permanence_are_few_and_documented():
    exceptions = {rule.name for rule in FILE.rule if rule.disposition is not None}
    assert exceptions == {"starttls-wanted", "encryption-for-auth", "auth-wanted", "qq-frequency", "godaddy-hourly"}
    decision = (ROOT / "docs/decisions/0004-what-a-refusal-means.md").read_text()
    assert all(f"`{name}`" in decision for name in exceptions)


CORPUS = corpus()


@pytest.mark.parametrize("row", [row for row in CORPUS if not row.why], ids=lambda row: row.text[:70])
def test_a_real_reply(row):
    outcome = row.judged()
    assert row.right(outcome), f"{outcome.failure}, {outcome.disposition}, pauses {outcome.lane_fault}, {outcome.rule}"


def test_the_corpus_as_a_whole():
    judged = [(row, row.judged()) for row in CORPUS]
    assert len(judged) > 800
    assert sum(outcome.failure in row.classes for row, outcome in judged) >= 0.92 * len(judged)
    assert sum(outcome.disposition is row.disposition for row, outcome in judged) >= 0.99 * len(judged)
    assert not [row.text for row, outcome in judged if row.why and row.right(outcome)], "needs no excuse any more"


def test_the_page_shows_how_well_they_are_classed():
    page = (ROOT / "docs/reference/reply-classes.md").read_text()
    assert table() in page, "renew it: python -m tests.support.reply_corpus"
    assert all(f"| `{name}` |" in page for name in set(FailureClass))


PERMANENT = [
    "550 5.7.1 DKIM authentication failed",
    "550 5.7.1 authentication failed: SPF",
    "554 5.7.1 DMARC authentication failed",
    "550 5.7.1 RESOLVER.RST.AuthRequired; authentication required [Stage: CreateMessage]",
    "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required",
    "550 5.7.134 RESOLVER.RST.SenderNotAuthenticatedForMailbox; authentication required",
    "525 5.7.13 Disabled recipient address",
    "550 5.7.9 This mail has been blocked because the sender is unauthenticated",
    "554 5.7.9 Message not accepted for policy reasons",
    "550 5.7.8 Sender is not authenticated",
    "550 5.7.10 Encryption needed",
    "554 5.7.4 Security features not supported",
    "523 5.7.10 Encryption needed",
    "550 Authentication required",
    "571 5.7.1 TLS required",
]


@pytest.mark.parametrize("text", PERMANENT)
def test_words_about_authentication_and_tls_do_not_keep_a_refusal_in_the_queue(text):
    outcome = judge_reply(parse(text))
    assert outcome.disposition is Disposition.PERMANENT
    assert outcome.failure != "auth"
    assert not outcome.lane_fault


@pytest.mark.parametrize("code", [530, 534, 535, 538])
def test_codes_of_auth_and_starttls_are_ours(code):
    assert judge_reply(Reply(code, "5.7.0", "no")).disposition is Disposition.TEMPORARY


GOES_ON = [
    "452 Mailbox size limit exceeded",
    "452 4.3.1 <x@y.test> mailbox size limit exceeded",
    "452 4.2.2 over quota",
    "450 user x@y.test has too many messages on the server",
    "451 4.7.1 <x@y.test>: too many emails to this recipient",
    "452 Too many recipients",
    "452 4.5.3 Error: too many recipients",
    "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
    "451 4.5.1 The recipient <x@y.test> has exceeded their message rate limit. Try again later.",
    "452 4.2.1 hourly limit for incoming mail reached",
    "450 4.2.0 <x@y.test>: Recipient address rejected: Greylisted",
    "450 4.1.1 <x@y.test>: Recipient address rejected: unverified address",
    "452 4.3.1 Insufficient system storage",
    "450 mailbox busy",
    "451 4.3.0 Temporary local problem",
    "450 4.1.8 <s@ext.test>: Sender address rejected: Domain not found",
    "451 4.7.1 Message content rejected for now, spam",
    "550 5.7.1 blocked using zen.spamhaus.org",
    "552 Message limit exceeded",
]


@pytest.mark.parametrize("text", GOES_ON)
def test_the_lane_goes_on_where_it_is_about_a_mailbox_or_a_message(text):
    assert not judge_reply(parse(text)).lane_fault


PAUSES = [
    "421 anything at all",
    "451 4.7.500 Server busy. Please try again later",
    "450 4.7.1 Connection rate too high, please slow down",
    "450 MI:DMC 163 mx1",
    "451 Too many letters from your IP, retry later",
    "450 4.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org",
    "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation.",
    "550 Ip frequency limited",
]


@pytest.mark.parametrize("text", PAUSES)
def test_the_lane_pauses_where_it_is_about_us_the_connection_or_the_rate(text):
    assert judge_reply(parse(text)).lane_fault


BLAMES = [
    "550 sender domain doesn't exist",
    "450 4.1.8 Domain of sender address does not exist",
    "553 5.1.8 <s@ext.test>... Domain of sender address s@ext.test does not exist",
    "553 5.1.7 The sender address <x> is invalid",
    "550 helo host does not exist",
    "550 EHLO name not found",
    "550 5.7.1 PTR does not exist for 192.0.2.1",
    "550 no such reverse DNS entry",
    "550 unknown user domain in HELO",
    "550 5.1.1 MAIL FROM domain not found",
    "550 5.1.0 <s@ext.test> sender rejected",
    "550 Return-path address unknown",
]


@pytest.mark.parametrize("text", BLAMES)
def test_a_complaint_about_the_sender_or_the_host_is_none_about_the_recipient(text):
    assert judge_reply(parse(text)).failure in ("policy", "reputation", "dns")


DETAILS = [
    ("550 #5.1.0 Address rejected.", "5.1.0"),
    ("553 sorry, no mailbox here by that name (#5.1.1)", "5.1.1"),
    ("552 4.2.2 The mailbox is over quota", "5.2.2"),
    ("450 5.1.1 x", "4.1.1"),
    ("550 Ip frequency limited 5.7.1", "4.7.1"),
    ("554 rejected: 5.7.1: no", "5.7.1"),
    ("550 blocked 5.1.1.9", ""),
    ("550 version 5.1.12345", ""),
    ("550 no", ""),
]


@pytest.mark.parametrize(("text", "enhanced"), DETAILS)
def test_an_enhanced_code_counts_wherever_it_stands(text, enhanced):
    assert judge_reply(parse(text)).enhanced == enhanced


def test_addresses_and_links_are_no_complaint():
    text = "550 <spam-no-such-user@blacklist.test>: please see https://y.test/spam/user-unknown"
    assert judge_reply(parse(text)).failure == "other"
    subject = subject_of("Ünknown  User\t<a@b.test> [192.0.2.1] [2001:db8::1] see https://x.test/y")
    assert subject.words == "unknown user <@> [ip] [ip] see ~"
    assert subject.links == "https://x.test/y"


HOSTILE = ["user ", "your ip ", "a", "sender not ", "1.", "::", "@", "http://", "exceeded the ", "é", "from: ", "x@"]


@pytest.mark.parametrize("word", HOSTILE)
@pytest.mark.parametrize("size", [1000, 8_000_000])
def test_a_hostile_reply_takes_little_time(word, size):
    reply = Reply(550, "", word * (size // len(word)))
    rules()
    began = time.thread_time()
    judge_reply(reply)
    assert time.thread_time() - began < 0.05


def test_settings_may_name_every_class():
    assert set(get_args(Named)) == set(FailureClass)
