import email
import email.policy

import pytest

from relay.message.dkim.sign import KeyRing
from relay.message.dsn import DsnFactory, build, wanted
from relay.message.dsn.fields import decoded, field, printable
from relay_config.schema import Duration, Settings, Stream
from relay_queue.ids import is_id
from relay_queue.model import Entry, Message, Recipient
from relay_queue.states import State
from tests.support.dkim_keys import key, results

NOW = 1_767_323_045.0
ORIGINAL = (
    b"Received: from x by y; z\r\nFrom: Alice <alice@example.org>\r\nTo: bob@example.net\r\n"
    b"Subject: Quarterly numbers\r\nMessage-ID: <one@example.org>\r\n\r\nSecret body text\r\n"
)


def message(**changes):
    fields = {"id": "m" * 26, "received_at": NOW - 7200, "sender": "alice@example.org", "size": len(ORIGINAL)}
    return Message(**(fields | changes))


def recipient(n=0, **changes):
    fields = {
        "address": f"bob{n}@example.net",
        "domain": "example.net",
        "state": State.FAILED,
        "reply": "550 5.1.1 No such user here",
        "changed_at": NOW - 60,
    }
    return Recipient(message_id="m" * 26, n=n, **(fields | changes))


def made(kind="failure", recipients=None, original=ORIGINAL, msg=None, **options):
    entry = Entry(msg or message(), [recipient()] if recipients is None else recipients)
    return build(kind, entry, original, hostname="mail.example.com", now=NOW, **options)


def parsed(put):
    octets = put.body.head
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    report = email.message_from_bytes(octets, policy=email.policy.SMTP)
    assert not report.defects
    assert report.get_content_type() == "multipart/report"
    assert report.get_param("report-type") == "delivery-status"
    return report, list(report.iter_parts())


def groups(part):
    """The field groups of a delivery-status part."""
    text = part.get_payload(decode=True) if not part.is_multipart() else None
    if text is None:
        return [dict(group.items()) for group in part.get_payload()]
    blocks = text.decode().split("\r\n\r\n")
    return [dict(email.message_from_string(block.replace("\r\n ", " ")).items()) for block in blocks if block.strip()]


def words_of(part):
    return part.get_payload(decode=True).decode("utf-8")


@pytest.mark.parametrize(
    ("kind", "notify", "expected"),
    [
        ("failure", None, True),
        ("delay", None, False),
        ("success", None, False),
        ("failure", "NEVER", False),
        ("delay", "NEVER", False),
        ("failure", "SUCCESS", False),
        ("success", "SUCCESS", True),
        ("success", "SUCCESS,FAILURE", True),
        ("failure", "FAILURE,DELAY", True),
        ("delay", "FAILURE,DELAY", True),
        ("delay", "failure,delay", True),
    ],
)
def test_who_wants_one(kind, notify, expected):
    assert wanted(kind, recipient(notify=notify), message()) is expected
    assert not wanted(kind, recipient(notify=notify), message(sender=""))


def test_the_envelope():
    put = made()
    message, [to] = put.entry.message, put.entry.recipients
    assert is_id(message.id)
    assert (message.sender, message.origin, message.user) == ("", "dsn", None)
    assert message.size == len(put.body.head)
    assert (message.eightbit, message.smtputf8) == (False, False)
    assert (to.address, to.domain, to.notify, to.state) == ("alice@example.org", "example.org", "NEVER", State.QUEUED)
    assert (to.message_id, to.n, to.due_at) == (message.id, 0, NOW)


def test_a_failure_as_people_and_programs_read_it():
    put = made(recipients=[recipient(remote="mx.example.net[192.0.2.9]:25")])
    report, [text, status, original] = parsed(put)
    assert report["From"] == "Mail Delivery System <MAILER-DAEMON@mail.example.com>"
    assert report["To"] == "alice@example.org"
    assert report["Subject"] == "Your message could not be delivered"
    assert report["Auto-Submitted"] == "auto-replied"
    assert report["Message-ID"] == f"<{put.entry.message.id}@mail.example.com>"
    assert report["In-Reply-To"] == report["References"] == "<one@example.org>"
    assert report["Date"] == "Fri, 02 Jan 2026 03:04:05 +0000"
    plain = " ".join(words_of(text).split())
    assert "could not be delivered to this recipient" in plain
    assert "<bob0@example.net>" in plain
    assert "mx.example.net[192.0.2.9] said: 550 5.1.1 No such user here" in plain
    assert "Check the address" in plain
    assert "Quarterly numbers" in plain
    assert status.get_content_type() == "message/delivery-status"
    about, one = groups(status)
    assert about == {"Reporting-MTA": "dns; mail.example.com", "Arrival-Date": "Fri, 02 Jan 2026 01:04:05 +0000"}
    assert one == {
        "Final-Recipient": "rfc822;bob0@example.net",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.example.net",
        "Diagnostic-Code": "smtp; 550 5.1.1 No such user here",
        "Last-Attempt-Date": "Fri, 02 Jan 2026 03:03:05 +0000",
    }
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"Secret body" not in put.body.head
    assert b"Subject: Quarterly numbers\r\n" in put.body.head


def test_envid_and_orcpt_come_back_decoded():
    put = made(recipients=[recipient(orcpt="rfc822;b+2Bob@example.net")], msg=message(envid="id+3D1"))
    _, [_, status, _] = parsed(put)
    about, one = groups(status)
    assert about["Original-Envelope-Id"] == "id=1"
    assert one["Original-Recipient"] == "rfc822;b+ob@example.net"


def test_a_delay_says_until_when():
    late = recipient(notify="DELAY", state=State.QUEUED, reply="421 4.4.2 try later")
    put = made("delay", [late], expires_at=NOW + 86_400)
    report, [text, status, _] = parsed(put)
    assert report["Subject"] == "Your message is delayed"
    plain = " ".join(words_of(text).split())
    assert "tried again until Sat, 03 Jan 2026 03:04:05 +0000" in plain
    _, one = groups(status)
    assert (one["Action"], one["Status"]) == ("delayed", "4.4.2")
    assert one["Will-Retry-Until"] == "Sat, 03 Jan 2026 03:04:05 +0000"


def test_a_success_is_relayed():
    put = made("success", [recipient(notify="SUCCESS", state=State.DELIVERED, reply="250 2.0.0 Ok")])
    _, [text, status, _] = parsed(put)
    assert "handed to the next mail server" in " ".join(words_of(text).split())
    _, one = groups(status)
    assert (one["Action"], one["Status"]) == ("relayed", "2.0.0")


def test_an_expired_one_keeps_its_last_cause():
    put = made(recipients=[recipient(state=State.EXPIRED, reply="connection to 192.0.2.1 timed out")])
    _, [text, status, _] = parsed(put)
    assert "in the time allowed" in words_of(text)
    _, one = groups(status)
    assert one["Status"] == "4.4.7"
    assert one["Diagnostic-Code"] == "X-Relay; connection to 192.0.2.1 timed out"
    assert "Remote-MTA" not in one


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("450 4.2.1 later", "5.2.1"),
        ("552 4.2.2 over quota", "5.2.2"),
        ("550 #5.1.0 Address rejected.", "5.1.0"),
        ("553 no mailbox here by that name (#5.1.1)", "5.1.1"),
        ("550 no", "5.0.0"),
        ("250 2.0.0 ok", "5.0.0"),
        ("connection to 10.5.1.1 failed", "5.0.0"),
        (None, "5.0.0"),
    ],
)
def test_a_status_fits_the_action(reply, code):
    _, [_, status, _] = parsed(made(recipients=[recipient(reply=reply)]))
    assert groups(status)[1]["Status"] == code


@pytest.mark.parametrize(
    ("failure", "reply"),
    [
        ("policy", "550 5.1.0 <alice@example.org> sender rejected"),
        ("policy", "553 5.1.8 Domain of sender address does not exist"),
        ("reputation", "550 5.1.1 PTR does not exist for 192.0.2.1"),
        ("content", "550 Message contains invalid recipient header"),
        ("throttled", "550 5.2.1 receiving mail at a rate that prevents delivery"),
        ("relay_denied", "550 5.1.2 we do not relay"),
    ],
)
def test_a_good_address_is_not_blamed(failure, reply):
    _, [text, _, _] = parsed(made(recipients=[recipient(failure=failure, reply=reply)]))
    plain = " ".join(words_of(text).split())
    assert "Check the address" not in plain
    assert "does not exist there" not in plain


@pytest.mark.parametrize("reply", ["550 5.1.1 User unknown", "550 Unknown user", "550 5.5.0 mailbox unavailable"])
def test_a_bad_address_is(reply):
    _, [text, _, _] = parsed(made(recipients=[recipient(failure="unknown_user", reply=reply)]))
    assert "does not exist there" in " ".join(words_of(text).split())


def test_only_those_who_want_one_are_told():
    told = [recipient(0), recipient(1, notify="NEVER"), recipient(2, notify="SUCCESS"), recipient(3, notify="FAILURE")]
    _, [_, status, _] = parsed(made(recipients=told))
    names = [group["Final-Recipient"] for group in groups(status)[1:]]
    assert names == ["rfc822;bob0@example.net", "rfc822;bob3@example.net"]


def test_none_where_nobody_wants_one():
    assert made(recipients=[recipient(notify="NEVER")]) is None
    assert made("delay") is None
    assert made(msg=message(sender="")) is None
    assert made(recipients=[]) is None
    assert made(msg=message(sender="no address")) is None
    assert made(msg=message(sender="a\r\nBcc: x@y")) is None


def test_the_whole_message_by_ret_full():
    put = made(msg=message(ret="FULL"))
    _, [_, _, original] = parsed(put)
    assert original.get_content_type() == "message/rfc822"
    assert ORIGINAL in put.body.head


@pytest.mark.parametrize(
    ("kind", "changes", "original"),
    [
        ("failure", {"ret": "HDRS"}, ORIGINAL),
        ("failure", {"ret": "FULL", "size": len(ORIGINAL) + 1}, ORIGINAL),
        ("failure", {"ret": "FULL", "size": (1 << 20) + len(ORIGINAL)}, ORIGINAL + b"x" * (1 << 20)),
        ("success", {"ret": "FULL"}, ORIGINAL),
    ],
)
def test_else_the_header_alone(kind, changes, original):
    put = made(kind, [recipient(notify="SUCCESS,FAILURE")], original, message(**changes))
    _, [_, _, part] = parsed(put)
    assert part.get_content_type() == "text/rfc822-headers"
    assert b"Secret body" not in put.body.head


def test_a_lost_original_has_an_empty_part():
    _, [_, _, part] = parsed(made(original=b"\r\n"))
    assert part.get_payload() == ""


def test_eight_bit_originals():
    original = ORIGINAL.replace(b"Quarterly", "Größe".encode())
    put = made(original=original, msg=message(ret="FULL", size=len(original)))
    report, [text, _, part] = parsed(put)
    assert put.entry.message.eightbit
    assert not put.entry.message.smtputf8
    assert report["Content-Transfer-Encoding"] == part["Content-Transfer-Encoding"] == "8bit"
    assert text["Content-Transfer-Encoding"] == "quoted-printable"
    assert "Größe numbers" in words_of(text)


def test_international_mail():
    one = recipient(address="bob@bücher.example", orcpt="utf-8;bob@b\\x{FC}cher.example")
    put = made(recipients=[one], msg=message(sender="älice@example.org", smtputf8=True))
    report, [_, status, part] = parsed(put)
    assert put.entry.message.smtputf8
    assert put.entry.recipients[0].address == "älice@example.org"
    assert status.get_content_type() == "message/global-delivery-status"
    assert part.get_content_type() == "message/global-headers"
    assert "Final-Recipient: utf-8;bob@bücher.example".encode() in put.body.head
    assert report.get_content_charset() is None


HOSTILE = (
    "550 5.1.1 x\r\n\r\nAction: delivered\r\n--=_relay\r\n\x1b[31m<img src=x onerror=1>\u202e\0\x85\u2028Bcc: e@x",
    "550 " + "x" * 100_000,
    "550 " + "\r\n" * 5000,
    "\ud800 surrogate",
    "5" * 900,
)


# reply, remote, state; then the Remote-MTA, the Diagnostic-Code's type, and what people read
ANSWERS = [
    ("550 no", "mx.test[192.0.2.9]:25", State.FAILED, "dns; mx.test", "smtp", "mx.test[192.0.2.9] said: 550 no"),
    ("550 no", "192.0.2.9[192.0.2.9]:25", State.FAILED, "dns; [192.0.2.9]", "smtp", "said: 550 no"),
    ("550 no", "2001:db8::9[2001:db8::9]:25", State.FAILED, "dns; [IPv6:2001:db8::9]", "smtp", "said: 550 no"),
    ("552 5.3.4 too big for it", None, State.FAILED, None, "smtp", "The last attempt ended with: 552"),
    ("5.1.2 no such domain", "mx.test[192.0.2.9]:25", State.FAILED, None, "X-Relay", "ended with: 5.1.2 no such"),
    ("450 busy", "mx.test[192.0.2.9]:25", State.EXPIRED, "dns; mx.test", "smtp", "mx.test[192.0.2.9] said: 450 busy"),
    ("timed out", "mx.test[192.0.2.9]:25", State.EXPIRED, "dns; mx.test", "X-Relay", "server that answered was mx"),
    ("timed out", None, State.EXPIRED, None, "X-Relay", "The last attempt ended with: timed out"),
]


@pytest.mark.parametrize(("reply", "remote", "state", "mta", "kind", "said"), ANSWERS)
def test_who_answered(reply, remote, state, mta, kind, said):
    _, [text, status, _] = parsed(made(recipients=[recipient(reply=reply, remote=remote, state=state)]))
    _, one = groups(status)
    assert one.get("Remote-MTA") == mta
    assert one["Diagnostic-Code"] == f"{kind}; {reply}"
    assert said in " ".join(words_of(text).split())


def test_each_recipient_names_its_own_server():
    told = [recipient(n, remote=f"mx{n}.test[192.0.2.{n}]:25") for n in range(2)]
    _, [text, status, _] = parsed(made(recipients=told))
    assert [group["Remote-MTA"] for group in groups(status)[1:]] == ["dns; mx0.test", "dns; mx1.test"]
    assert all(f"mx{n}.test[192.0.2.{n}] said:" in words_of(text) for n in range(2))


def test_what_an_administrator_gave_up_says_so_and_why():
    given_up = recipient(reply="450 4.2.0 busy", remote="mx.test[192.0.2.9]:25", reason="mistyped address")
    _, [text, status, _] = parsed(made(recipients=[given_up]))
    _, one = groups(status)
    assert one["Status"] == "5.7.0"
    assert one["Diagnostic-Code"] == "X-Relay; An administrator of this server gave it up: mistyped address"
    assert "Remote-MTA" not in one
    plain = " ".join(words_of(text).split())
    assert "An administrator of this server gave it up: mistyped address" in plain
    assert "mx.test[192.0.2.9] said: 450 4.2.0 busy" in plain


@pytest.mark.parametrize("reasoned", [False, True])
@pytest.mark.parametrize("reply", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_replies_forge_nothing(reply, reasoned):
    hostile = recipient(reply=reply, remote=reply, reason=reply if reasoned else None)
    put = made(recipients=[hostile], msg=message(envid=reply))
    report, parts = parsed(put)
    assert len(parts) == 3
    assert "Bcc" not in report
    about, one = groups(parts[1])
    assert one["Action"] == "failed"
    assert "Bcc" not in about
    assert len(put.body.head) < 12_000
    assert b"\x1b" not in put.body.head
    assert b"\0" not in put.body.head
    assert put.body.head.isascii()


def test_a_thousand_recipients():
    _, [text, status, _] = parsed(made(recipients=[recipient(n) for n in range(1000)]))
    assert len(groups(status)) == 1001
    assert "these 1000 recipients" in " ".join(words_of(text).split())


def test_signed_when_there_is_a_key():
    one = key("example.com")
    settings = Settings(hostname="Mail.Example.com")
    factory = DsnFactory(settings, KeyRing({}))
    entry = Entry(message(), [recipient()])
    assert results(factory.build("failure", entry, ORIGINAL, NOW).body.head, one) == []
    factory.reload(settings, KeyRing({"example.com": [one]}))
    put = factory.build("failure", entry, ORIGINAL, NOW)
    assert results(put.body.head, one) == [True]
    assert put.entry.message.size == len(put.body.head)


def test_the_factory_tells_when_mail_expires():
    factory = DsnFactory(Settings(hostname="mail.example.com"), KeyRing({}))
    put = factory.build("delay", Entry(message(), [recipient(notify="DELAY", reply="451 later")]), ORIGINAL, NOW)
    # Received two hours ago, given up after two days.
    assert b"Will-Retry-Until: Sun, 04 Jan 2026 01:04:05 +0000" in put.body.head


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({"stream": "alerts"}, b"Fri, 02 Jan 2026 02:04:05 +0000"),
        ({"stream": "alerts", "expires_at": NOW + 600}, b"Fri, 02 Jan 2026 03:14:05 +0000"),
    ],
)
def test_a_stream_and_a_message_have_their_own_expiry(changes, until):
    settings = Settings(hostname="mail.example.com", stream={"alerts": Stream(expire_after=Duration(3600))})
    factory = DsnFactory(settings, KeyRing({}))
    entry = Entry(message(**changes), [recipient(notify="DELAY", reply="451 later")])
    assert b"Will-Retry-Until: " + until in factory.build("delay", entry, ORIGINAL, NOW).body.head


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b" plain", "plain"),
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe_an?=\r\n =?UTF-8?B?IGFsbGU=?=", "Grüße an alle"),
        (b" =?iso-8859-1*de?Q?=FC?= x", "ü x"),
        (b" =?nonsense?q?a?=", "=?nonsense?q?a?="),
        (b" =?utf-8?b?!!!?=", "=?utf-8?b?!!!?="),
        (b" =?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
        (b" \xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_subjects_are_decoded(value, text):
    assert decoded(value) == text


def test_printable_and_folding():
    assert printable("a\tb\x7fc  d é") == "a b c d ?"
    assert printable("é", utf8=True) == "é"
    long = field("X", " ".join(["word"] * 100))
    assert max(map(len, long.split("\r\n"))) <= 78
    assert long.replace("\r\n ", " ") == "X: " + " ".join(["word"] * 100) + "\r\n"
