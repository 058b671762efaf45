"""What is signed, and what is too ambiguous to be: from the octets a client sends to those the receiver gets."""

import re
from pathlib import Path

import pytest

from relay.message.dkim.sign import OVERSIGNED
from relay.message.headers import Header
from tests.support.dkim_keys import pem, results
from tests.support.whole import DOMAIN, Whole, whole

FROM = f"From: <app@{DOMAIN}>\r\n"
REST = "To: <r@rcpt.test>\r\nSubject: one\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@c.test>\r\n"
LISTENERS = ["open", "submit", "implicit"]


async def submit(relay: Whole, listener: str, head: str | bytes, body: bytes = b"x\r\n") -> tuple[str, str]:
    """(reply, token) of a message with that header block, which has its line ends but not the blank line."""
    token = relay.token()
    async with relay.client("open") if listener == "open" else relay.user(listener) as client:
        assert await client.code("EHLO c.test") == 250
        assert await client.code(f"MAIL FROM:<app@{DOMAIN}>") == 250
        assert await client.code(f"RCPT TO:<{token}@rcpt.test>") == 250
        assert await client.code("DATA") == 354
        octets = head.encode() if isinstance(head, str) else head
        reply = await client.say(octets + b"\r\n" + body + b".\r\n")
        assert await client.say("NOOP") == "250 2.0.0 OK"
        return reply, token


AMBIGUOUS = {
    "no From": REST,
    "nothing": "",
    "two From": FROM + REST + FROM,
    "two From, in other case": FROM + REST + FROM.upper(),
    "two From, one folded": FROM + REST + f"From:\r\n <app@{DOMAIN}>\r\n",
    "two Subject": FROM + REST + "Subject: two\r\n",
    "two Subject, side by side": FROM + "Subject: two\r\n" + REST,
    "two Date": FROM + REST + "DATE: Thu, 01 Jan 2026 00:00:00 +0000\r\n",
    "two To": FROM + REST + "to: <other@rcpt.test>\r\n",
    "a space before the colon": f"From : <app@{DOMAIN}>\r\n" + REST,
    "a tab before the colon": FROM + "Subject\t: one\r\n",
    "a folded name": FROM + "Sub\r\n ject: one\r\nX\r\n : y\r\n",
    "no name": FROM + ": one\r\n",
    "a line that is no field": FROM + REST + "this is text\r\n",
    "a line that is no field, first": "this is text\r\n" + FROM + REST,
    "a line that is no field, with a colon": FROM + REST + "this is: text\r\n",
    "an envelope's From": "From app@sender.test Thu Jan  1 00:00:00 2026\r\n" + FROM + REST,
    "an indented first line": " X: y\r\n" + FROM + REST,
    "a blank first line": " \r\n" + FROM + REST,
    "a second From behind a vertical tab": FROM + "Subject: one\r\n\x0bFrom: <boss@ext.test>\r\n",
    "a second From behind a no-break space": FROM + "Subject: one\r\n\u00a0From: <boss@ext.test>\r\n",
    "a second From behind a fold of blanks": FROM + "Subject: one\r\n \t\r\n" + FROM,
    "a name of eight bits": FROM + "Sub\u017fect: one\r\n",
    "several authors, no sender": f"From: <app@{DOMAIN}>, <boss@ext.test>\r\n" + REST,
    "an author within a comment's end": "From: app@sender.test)boss@ext.test\r\n" + REST,
    "an empty group": "From: undisclosed:;\r\n" + REST,
}


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("head", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_what_programs_read_differently_is_refused(relay: Whole, head: str, listener: str):
    reply, token = await submit(relay, listener, head)
    assert reply.startswith("554 5.6.0 "), reply
    assert token not in await relay.command("queue", "list", "--json")


@pytest.mark.parametrize("listener", LISTENERS)
async def test_a_bare_line_end_makes_no_second_author(relay: Whole, listener: str):
    """Mended line ends are looked at like those that were right."""
    for end in ("\n", "\r"):
        reply, _ = await submit(relay, listener, FROM + f"Subject: one{end}" + FROM)
        assert reply.startswith("554 5.6.0 "), reply


def tags(field: bytes) -> dict[bytes, bytes]:
    """A signature's tags, without blanks."""
    value = re.sub(rb"\s", b"", field.partition(b":")[2])
    return dict(part.split(b"=", 1) for part in value.split(b";"))


@pytest.fixture(name="brief", scope="module")
def _brief(tmp_path_factory: pytest.TempPathFactory):
    """A relay whose signatures expire."""
    folder = tmp_path_factory.mktemp("brief")
    keys = []
    for algorithm in ("rsa", "ed25519"):
        path: Path = folder / f"brief.{algorithm}.pem"
        path.write_bytes(pem(algorithm))
        path.chmod(0o600)
        keys.append({"selector": algorithm, "key": str(path), "expire_after": "7d"})
    with whole(folder, dkim={DOMAIN: keys}) as running:
        yield running


@pytest.mark.parametrize("listener", LISTENERS)
async def test_the_signatures_that_leave(brief: Whole, listener: str):
    """Both algorithms, t= and x= set, no l=, and each field named that must not be added."""
    reply, token = await submit(brief, listener, FROM + REST)
    assert reply.startswith("250 ")
    content = (await brief.took(token)).content
    header = Header.scan(content[: content.index(b"\r\n\r\n") + 4])
    found = [tags(field) for name, field in zip(header.names, header.fields, strict=True) if name == b"dkim-signature"]
    assert [one[b"a"] for one in found] == [b"rsa-sha256", b"ed25519-sha256"]
    for one in found:
        assert b"l" not in one
        assert int(one[b"x"]) == int(one[b"t"]) + 7 * 86400
        named = one[b"h"].lower().split(b":")
        for name in OVERSIGNED:
            assert named.count(name.lower().encode()) == header.count(name.lower().encode()) + 1, name
    assert results(content, *brief.keys) == [True, True]


@pytest.mark.parametrize("name", OVERSIGNED)
async def test_a_field_added_on_the_way_breaks_what_left(relay: Whole, name: str):
    reply, token = await submit(relay, "submit", FROM + REST)
    assert reply.startswith("250 ")
    content = (await relay.took(token)).content
    assert results(content, *relay.keys) == [True, True]
    added = f"{name}: <added@evil.test>\r\n".encode()
    assert results(added + content, *relay.keys) == [False, False]
    assert results(content.replace(b"\r\n\r\n", b"\r\n" + added + b"\r\n", 1), *relay.keys) == [False, False]


async def test_text_put_between_header_and_body_breaks_it(relay: Whole):
    """Nor does any text behind the body pass for signed (no l=)."""
    _, token = await submit(relay, "submit", FROM + REST)
    content = (await relay.took(token)).content
    head, _, body = content.partition(b"\r\n\r\n")
    for changed in (
        head + b"\r\n\r\nSubject: two\r\n\r\n" + body,
        head + b"\r\n\r\n\r\n" + body,
        content + b"more\r\n",
    ):
        assert results(changed, *relay.keys) == [False, False]
    assert results(content, *relay.keys) == [True, True]


FOLDED = {
    "every field folded": f"From:\r\n\t<app@{DOMAIN}>\r\nSubject:\r\n one\r\n  two \r\n\tthree\r\n",
    "folds of blanks": FROM + "Subject: one\r\n \r\n\t \t\r\n two\r\nX: y\r\n\t\r\n",
    "blanks at the ends": FROM + "Subject:   one \t \r\nTo:\t<r@rcpt.test>   \r\n",
    "no blank after the colon": f"From:<app@{DOMAIN}>\r\nSubject:one\r\nTo:\r\n",
    "line ends of other worlds": FROM + "Subject: a\u2028b\u0085c\x0bd\x0ce\r\n",
    "a signature of another": FROM
    + REST
    + "DKIM-Signature: v=1; a=rsa-sha256; d=evil.test; s=x; h=from; bh=x; b=x\r\n",
}


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("head", FOLDED.values(), ids=FOLDED)
async def test_odd_headers_leave_well_signed(relay: Whole, head: str, listener: str):
    reply, token = await submit(relay, listener, head, b" \r\n\t\r\nodd  body \t\r\n\r\n\r\n")
    assert reply.startswith("250 "), reply
    message = await relay.took(token)
    assert results(message.content, *relay.keys)[:2] == [True, True]
    header = message.content[: message.content.index(b"\r\n\r\n")]
    assert not re.search(rb"\r\n[ \t]+(?:\r\n|$)", header), "no line of blanks that could pass for the header's end"


async def test_blind_copies_leave_no_trace(relay: Whole):
    reply, token = await submit(
        relay, "submit", FROM + REST + "Bcc: <hidden@rcpt.test>,\r\n <also@rcpt.test>\r\nbCC: <third@rcpt.test>\r\n"
    )
    assert reply.startswith("250 ")
    content = (await relay.took(token)).content
    assert not re.search(rb"hidden|also@|third", content)
    assert results(content, *relay.keys) == [True, True]
