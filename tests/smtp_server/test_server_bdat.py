"""BDAT: whatever is wrong, announced octets are never run as commands."""

import pytest

from relay.smtp.reply import Reply
from tests.support.remembering_handler import RememberingHandler
from tests.support.sans_io import Dialog


async def test_chunks_make_one_message():
    d = Dialog().envelope()
    assert d.say(b"BDAT 8\r\nA: b\r\n\r\n") == "250 2.0.0 Chunk received"
    assert d.code(b"BDAT 0\r\n") == 250
    assert d.code(b"BDAT 9 LAST\r\n.\r\n..\r\nx\r") == 554
    d = Dialog().envelope()
    assert d.codes(b"BDAT 8\r\nA: b\r\n\r\nbdat 10 last\r\n.\r\n..\r\nx\r\nNOOP\r\n") == [250, 250, 250]
    assert d.handler.messages[0].octets == b"A: b\r\n\r\n.\r\n..\r\nx\r\n"


async def test_an_empty_last_chunk_ends_the_message():
    d = Dialog().envelope()
    assert d.codes(b"BDAT 8\r\nA: b\r\n\r\nBDAT 0 LAST\r\n") == [250, 250]
    assert d.handler.messages[0].octets == b"A: b\r\n\r\n"
    d = Dialog().envelope()
    assert d.codes(b"BDAT 0 LAST\r\n") == [250]
    assert d.handler.messages[0].octets == b"\r\n"


async def test_empty_chunks_without_end_end_the_session():
    d = Dialog().envelope()
    replies = []
    while not d.closed and len(replies) < 200:
        replies.append(d.say("BDAT 0"))
    assert len(replies) <= 101
    assert replies[-2:] == ["250 2.0.0 Chunk received", replies[-1]]
    assert replies[-1].startswith("421 4.7.0 ")


async def test_a_message_without_a_last_line_end_gets_one():
    d = Dialog().envelope()
    assert d.code(b"BDAT 9 LAST\r\nA: b\r\n\r\nx") == 250
    assert d.handler.messages[0].octets == b"A: b\r\n\r\nx\r\n"


async def test_a_chunk_may_end_between_cr_and_lf():
    d = Dialog().envelope()
    assert d.codes(b"BDAT 5\r\nA: b\rBDAT 4 LAST\r\n\n\r\nx") == [250, 250]
    assert d.handler.messages[0].octets == b"A: b\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    "argument",
    [
        "-1",
        "x",
        "99999999999999999999",
        "+5",
        "\u0663",
        "5 LASTX",
        "5 LAST LAST",
        "",
        "LAST",
        "0x5",
        "1_0",
        "5.0",
        "5,6",
    ],
)
async def test_a_count_that_means_nothing_ends_the_session(argument):
    """What follows cannot be told from commands."""
    d = Dialog().envelope()
    assert d.codes(f"BDAT {argument}\r\nMAIL FROM:<smuggled@evil.test>\r\n") == [501]
    assert d.closed
    assert not d.handler.messages


async def test_octets_that_look_like_commands_are_octets():
    d = Dialog().envelope()
    assert d.codes(b"BDAT 6\r\nRSET\r\nBDAT 0 LAST\r\n") == [250, 250]
    assert d.handler.messages[0].octets == b"RSET\r\n\r\n"


async def test_without_a_transaction_octets_are_consumed():
    d = Dialog().hello()
    assert d.codes(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [503, 250]
    assert d.code("MAIL FROM:<s@ext.test>") == 250
    assert d.codes(b"BDAT 6\r\nQUIT\r\nNOOP\r\n") == [503, 250]
    assert d.code("RCPT TO:<a@local.test>") == 250
    assert d.code(b"BDAT 6 LAST\r\nA: b\r\n") == 250


async def test_data_and_bdat_do_not_mix():
    d = Dialog().envelope()
    assert d.code(b"BDAT 6\r\nA: b\r\n") == 250
    assert d.code("DATA") == 503
    assert d.code("MAIL FROM:<s@ext.test>") == 503
    assert d.code("RCPT TO:<b@local.test>") == 503
    assert d.code(b"BDAT 0 LAST\r\n") == 250
    d = Dialog().data()
    assert d.code(b"BDAT 6 LAST\r\nA: b\r\n.\r\n") == 250
    assert d.codes(b"BDAT 6 LAST\r\nQUIT\r\n") == [503]
    assert len(d.handler.messages) == 1


async def test_rset_clears_the_chunks():
    handler = RememberingHandler(spill_at=1)
    d = Dialog(handler).envelope()
    assert d.code(b"BDAT 8\r\nA: b\r\n\r\n") == 250
    assert d.code(b"BDAT 5\r\nxxxxx") == 250
    assert d.code("RSET") == 250
    assert handler.discarded == 1
    assert d.codes("MAIL FROM:<t@ext.test>\r\nRCPT TO:<b@local.test>") == [250, 250]
    assert d.code(b"BDAT 6 LAST\r\nC: d\r\n") == 250
    (message,) = handler.messages
    assert message.octets == b"C: d\r\n\r\n"
    assert message.transaction.sender == "t@ext.test"


async def test_too_large_is_consumed_then_refused():
    d = Dialog(max_message_size=10).envelope()
    assert d.codes(b"BDAT 6\r\nA: b\r\nBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [250, 552, 503, 250]
    assert not d.handler.messages
    assert d.code("MAIL FROM:<t@ext.test>") == 250


async def test_a_size_beyond_all_measure_ends_the_session():
    d = Dialog().envelope()
    assert d.code(b"BDAT 999999999999999999\r\nRSET\r\n") == 552
    assert d.closed


async def test_after_a_failure_further_chunks_are_discarded():
    d = Dialog().envelope()
    assert d.codes(b"BDAT 6\r\nA\nb: \nBDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n") == [554, 503, 503]
    assert not d.closed
    assert not d.handler.messages
    assert d.code("MAIL FROM:<t@ext.test>") == 250
    d = Dialog().envelope()
    assert d.codes(b"BDAT 6\r\nA\nb: \nDATA\r\n") == [554, 503]
    assert d.codes(b"RSET\r\nMAIL FROM:<t@ext.test>\r\n") == [250, 250]


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (b"a\nb", 554),
        (b"a\rb", 554),
        (b"a\0b", 554),
        (b"a\r", 554),
        (b"\n.\r\n", 554),
        (b"x" * 999, 500),
        (b"x" * 998, 250),
    ],
)
async def test_content_keeps_the_rules_of_data(octets, code):
    d = Dialog().envelope()
    assert d.code(b"BDAT %d LAST\r\n%b" % (len(octets), octets)) == code


async def test_clients_of_ours_have_line_ends_mended():
    d = Dialog(RememberingHandler(trusted=True)).envelope()
    assert d.code(b"BDAT 10 LAST\r\nA: b\n\nx\ry\r") == 250
    assert d.handler.messages[0].octets == b"A: b\r\n\r\nx\r\ny\r\n"


async def test_incoming_refused_consumes_the_chunk():
    handler = RememberingHandler(incoming_reply=Reply(452, "4.3.1", "disk"))
    d = Dialog(handler).envelope()
    assert d.codes(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [452, 503, 250]
    assert not d.closed


async def test_a_421_for_a_chunk_ends_the_session():
    handler = RememberingHandler(incoming_reply=Reply(421, "4.3.2", "bye"))
    d = Dialog(handler).envelope()
    assert d.codes(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n") == [421]
    assert d.closed
