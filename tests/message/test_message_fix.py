import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.fix import Facts, Fixed, fix
from relay.message.headers import Header
from relay.smtp.reply import Reply

FACTS = Facts(id="0abc", hostname="mail.example.com", now=1_767_323_045.0)
GOOD = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: x\r\nDate: d\r\nMessage-ID: <m@x>\r\n"


def fixed(block):
    result = fix(block, FACTS)
    assert isinstance(result, Fixed), result
    return result


def refusal(block, facts=FACTS):
    result = fix(block, facts)
    assert isinstance(result, Reply), "accepted"
    return result


def test_a_complete_header_is_untouched():
    result = fixed(GOOD + b"\r\n")
    assert result.header.to_bytes() == GOOD + b"\r\n"
    assert [author.domain for author in result.authors] == ["example.org"]


def test_date_and_message_id_are_added():
    assert fixed(b"From: a@example.org\r\n\r\n").header.to_bytes() == (
        b"From: a@example.org\r\nDate: Fri, 02 Jan 2026 03:04:05 +0000\r\nMessage-ID: <0abc@mail.example.com>\r\n\r\n"
    )


def test_blind_copies_and_return_paths_go():
    block = (
        b"Return-Path: <x@y>\r\nBCC: c@x,\r\n d@x\r\n" + GOOD + b"Resent-Bcc: e@x\r\nbcc: f@x\r\nX-Bcc: kept\r\n\r\n"
    )
    assert fixed(block).header.to_bytes() == GOOD + b"X-Bcc: kept\r\n\r\n"


def test_mime_fields_are_untouched():
    block = GOOD + b"Content-Type: text/plain;\r\n\tcharset=x\r\n\r\n"
    assert fixed(block).header.to_bytes() == block


def test_lines_of_blanks_within_a_field_are_dropped():
    block = GOOD + b"X-A: one\r\n \t \r\n\t\r\n two\r\nX-B: \r\n \r\n\r\n"
    assert fixed(block).header.to_bytes() == GOOD + b"X-A: one\r\n two\r\nX-B: \r\n\r\n"


@pytest.mark.parametrize(
    ("block", "word"),
    [
        (b"\r\n", "no From field"),
        (b"To: b@example.net\r\n\r\n", "no From field"),
        (b"From: a@example.org\r\n" + GOOD + b"\r\n", "more than one From"),
        (b"From:\r\n\r\n", "no address"),
        (b"From: undisclosed:;\r\n\r\n", "no address"),
        (b"From: a@example.org)b@evil.test\r\n\r\n", "malformed"),
        (b"From : a@example.org\r\n\r\n", "space before its colon"),
        (b"From: a@example.org\r\nhidden text\r\n\r\n", "line 2"),
        (b" \r\nFrom: a@example.org\r\n\r\n", "indented"),
        (b" X: y\r\nFrom: a@example.org\r\n\r\n", "indented"),
        (b"From root\r\nFrom: a@example.org\r\n\r\n", "line 1"),
        (b"From a@example.org\r\n\r\n", "line 1"),
        (b"From : a@example.org Sat 10:00\r\n\r\n", "space before its colon"),
        (b"From: root\r\n\r\n", "submission.default_domain"),
        (b"From: a@example.org, b@example.org\r\n\r\n", "Sender"),
        (b"From: a@example.org, b@example.org\r\nSender: a@example.org, b@x\r\n\r\n", "exactly one"),
        (b"From: a@example.org, b@example.org\r\nSender: a)b\r\n\r\n", "malformed"),
    ],
)
def test_refusals_say_what_is_wrong(block, word):
    reply = refusal(block)
    assert (reply.code, reply.enhanced) == (554, "5.6.0")
    if b"From root" in block or b"Sat" in block:
        local = Facts(id="0abc", hostname="mail.example.com", now=0.0, default_domain="d.example")
        assert word in refusal(block, local).text
    assert word in reply.text


@pytest.mark.parametrize("name", ["Subject", "To", "Cc", "Date", "Message-ID", "Reply-To", "Sender"])
def test_duplicates_are_refused(name):
    block = f"From: a@example.org\r\n{name}: x\r\nX: y\r\n{name.upper()}: x\r\n\r\n".encode()
    reply = refusal(block)
    assert (reply.code, reply.enhanced) == (554, "5.6.0")
    assert f"one {name} field" in reply.text


@pytest.mark.parametrize("empty", [b"", b" ", b" <>", b" < > ", b"\r\n\t"])
@pytest.mark.parametrize("name", [b"Date", b"Message-ID"])
def test_empty_dates_and_message_ids_count_as_missing(name, empty):
    rest = b"From: a@example.org\r\nDate: d\r\nMessage-ID: <m@x>\r\n".replace(
        b"Date: d\r\n" if name == b"Date" else b"Message-ID: <m@x>\r\n", b""
    )
    header = fixed(b"%b:%b\r\n" % (name, empty) + rest + b"\r\n").header
    assert header.count(name.lower()) == 1
    assert header.value(name.lower()) in (b" Fri, 02 Jan 2026 03:04:05 +0000", b" <0abc@mail.example.com>")
    # An empty field beside a good one is no second one.
    block = GOOD + b"%b:%b\r\n\r\n" % (name.lower(), empty)
    assert fixed(block).header.to_bytes() == GOOD + b"\r\n"


def test_other_empty_fields_stay():
    block = GOOD + b"Cc: \r\nReply-To:\r\nIn-Reply-To: <>\r\n\r\n"
    assert fixed(block).header.to_bytes() == block


@pytest.mark.parametrize(
    "line",
    [
        b"From root Sat Nov 28 07:37:12 2026",
        b"From root@example.org  Sat Nov 28 07:37:12 2026",
        b">From root Sat Nov 28 07:37:12 2026",
        b"From - 28 Nov 2026 7:37",
        b"From a@b Sat, 28 Nov 2026\r\n>From c Sun Nov 29 2026 remote from d",
    ],
)
def test_an_mbox_line_in_front_is_dropped(line):
    facts = Facts(id="0abc", hostname="mail.example.com", now=0.0, default_domain="d.example")
    result = fix(line + b"\r\n" + GOOD + b"\r\n", facts)
    assert isinstance(result, Fixed)
    assert result.header.to_bytes() == GOOD + b"\r\n"
    assert "malformed" in refusal(GOOD + line + b"\r\n\r\n", facts).text, "only in front"
    assert "submission.default_domain" in refusal(line + b"\r\n" + GOOD + b"\r\n").text, "only with the setting"


def test_a_from_in_bad_syntax_is_rewritten_in_its_place():
    block = GOOD.replace(b"From: a@example.org", b"To: x@y\r\nFROM: Doe, John <a@example.org>", 1).replace(
        b"To: b@example.net\r\n", b""
    )
    result = fixed(block + b"\r\n")
    assert result.header.to_bytes() == block.replace(b"FROM: Doe, John", b'From: "Doe, John"') + b"\r\n"
    assert result.authors[0].address == "a@example.org"


def test_a_rewritten_from_is_folded():
    name = b"\r\n ".join([b"[word]"] * 500)
    octets = fixed(b"From: " + name + b" <a@example.org>\r\n\r\n").header.to_bytes()
    assert max(map(len, octets.split(b"\r\n"))) <= 998


def test_addresses_without_a_domain():
    facts = Facts(id="0abc", hostname="mail.example.com", now=0.0, default_domain="d.example")
    block = (
        b"From: root (Cron Daemon)\r\nTo: root\r\nCc: a@x.test, www-data\r\nReply-To: <root>\r\nSender: root\r\n"
        b"Date: d\r\nMessage-ID: <m@x>\r\nX-To: root\r\n\r\n"
    )
    result = fix(block, facts)
    assert isinstance(result, Fixed)
    assert result.header.to_bytes() == (
        b"From: root@d.example (Cron Daemon)\r\nTo: root@d.example\r\nCc: a@x.test, www-data@d.example\r\n"
        b"Reply-To: <root@d.example>\r\nSender: root@d.example\r\nDate: d\r\nMessage-ID: <m@x>\r\nX-To: root\r\n\r\n"
    )
    assert [author.address for author in result.authors] == ["root@d.example"]
    assert fixed(block.replace(b"root (Cron Daemon)", b"a@x.test")).header.value(b"to") == b" root"


def test_several_authors_with_one_sender():
    result = fixed(b"From: a@example.org, b@example.net\r\nSender: b@example.net\r\n\r\n")
    assert [author.domain for author in result.authors] == ["example.org", "example.net"]


def test_loops_are_broken():
    assert (refusal(b"Received: x\r\n" * 51 + GOOD + b"\r\n")).enhanced == "5.4.6"
    fixed(b"Received: x\r\n" * 50 + GOOD + b"\r\n")


def test_too_many_fields():
    reply = refusal(b"X: y\r\n" * 1001 + GOOD + b"\r\n")
    assert (reply.code, reply.enhanced) == (554, "5.6.0")
    assert "1000" in reply.text


@given(st.text("From: a@b.c\r\n\tBxé\0,<>", max_size=80).map(str.encode))
def test_what_is_accepted_has_one_from_and_nothing_hidden(block):
    result = fix(b"From: a@example.org\r\n" + block + b"\r\n\r\n", FACTS)
    if isinstance(result, Fixed):
        again = Header.scan(result.header.to_bytes())
        assert again.problem is None
        assert again.fields == result.header.fields
        assert again.count(b"from") == 1
        assert again.count(b"date") == again.count(b"message-id") == 1
        assert b"bcc" not in again.names
