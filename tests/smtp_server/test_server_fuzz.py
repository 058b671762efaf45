"""Any octets in any cut: no internal error, well-formed replies, bounded memory, nothing stored that may not be."""

import asyncio
import itertools
import logging
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog

REPLY = re.compile(rb"(?:[2-5][0-9]{2}(?:-[^\r\n]*\r\n[2-5][0-9]{2})*(?: [^\r\n]*)\r\n)*")

lines = st.sampled_from(
    [
        b"EHLO c.test",
        b"HELO c.test",
        b"MAIL FROM:<s@ext.test>",
        b"MAIL FROM:<> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x AUTH=<>",
        b"RCPT TO:<u@local.test>",
        b"RCPT TO:<u@local.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bb",
        b'RCPT TO:<"a b"@[IPv6:::1]>',
        b"DATA",
        b".",
        b"..",
        b"Subject: x",
        b"",
        b"BDAT 6",
        b"BDAT 12 LAST",
        b"BDAT 0 LAST",
        b"RSET",
        b"NOOP",
        b"AUTH LOGIN",
        b"AUTH PLAIN AHVzZXIAcGFzcw==",
        b"dXNlcg==",
        b"*",
        b"VRFY x",
        b"HELP",
        b"STARTTLS",
        b"\xff\xfe",
        "MAIL FROM:<ü@bücher.test> SMTPUTF8".encode(),
    ]
)
ends = st.sampled_from([b"\r\n"] * 12 + [b"\n", b"\r", b"\0", b"\r\n.\r\n", b" "])
octets = st.lists(
    st.one_of(st.tuples(lines, ends).map(b"".join), st.binary(max_size=30)),
    max_size=40,
).map(b"".join)


class Raised(logging.Handler):
    def emit(self, record):
        raise AssertionError(record.getMessage()) from (record.exc_info[1] if record.exc_info else None)


async def converse(stream: bytes, cuts: list[int], *, trusted: bool) -> Dialog:
    d = Dialog(RememberingHandler(trusted=trusted), auth="optional", max_message_size=2000)
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    d.feed(b"EHLO c.test\r\n")
    for a, b in itertools.pairwise(edges):
        if not d.closed:
            d.feed(stream[a:b])
    return d


@settings(max_examples=400, deadline=None)
@given(stream=octets, cuts=st.lists(st.integers(0, 5000), max_size=10), trusted=st.booleans())
def test_any_stream(stream, cuts, trusted):
    log = logging.getLogger("relay.smtp.server.session")
    watch = Raised()
    log.addHandler(watch)
    try:
        d = asyncio.run(converse(stream, cuts, trusted=trusted))
    finally:
        log.removeHandler(watch)
    assert REPLY.fullmatch(d.replies), d.replies
    assert b"4.3.0" not in d.replies
    assert d.engine.waiting <= max(12_288, len(stream))
    for message in d.handler.messages:
        assert message.octets.count(b"\r") == message.octets.count(b"\n") == message.octets.count(b"\r\n")
        assert b"\0" not in message.octets
        assert len(message.octets) <= 2002
        assert message.recipients
