"""The reply reader, whole and one octet at a time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.client.replies import LINE_LIMIT, LINES_LIMIT, TEXT_LIMIT, ReplyError, ReplyReader
from relay.smtp.reply import Reply


def whole(octets: bytes) -> list[Reply]:
    reader = ReplyReader()
    replies = reader.feed(octets)
    assert not reader.pending
    return replies


def singly(octets: bytes) -> list[Reply]:
    reader = ReplyReader()
    replies = [reply for n in range(len(octets)) for reply in reader.feed(octets[n : n + 1])]
    assert not reader.pending
    return replies


GOOD = [
    (b"250 ok\r\n", [Reply(250, "", "ok")]),
    (b"250\r\n", [Reply(250, "", "")]),
    (b"250 \r\n", [Reply(250, "", "")]),
    (b"250 ok\n", [Reply(250, "", "ok")]),
    (b"250 2.1.0 Sender ok\r\n", [Reply(250, "2.1.0", "Sender ok")]),
    (b"250 2.1.0\r\n", [Reply(250, "2.1.0", "")]),
    (b"550-5.1.1 The account\r\n550 5.1.1 does not exist\r\n", [Reply(550, "5.1.1", "The account\ndoes not exist")]),
    (b"550-5.1.1 one\r\n550-5.1.10 two\r\n550 three\r\n", [Reply(550, "5.1.1", "one\n5.1.10 two\nthree")]),
    (b"250-a\r\n250-\r\n250\r\n", [Reply(250, "", "a\n\n")]),
    (b"550 4.1.1 class does not agree\r\n", [Reply(550, "", "4.1.1 class does not agree")]),
    (b"550 5.1.1000 no such form\r\n", [Reply(550, "", "5.1.1000 no such form")]),
    (b"550 5.1.1x no such form\r\n", [Reply(550, "", "5.1.1x no such form")]),
    (b"354 3.0.0 no such class\r\n", [Reply(354, "", "3.0.0 no such class")]),
    (b"550 5.7.511 long detail\r\n", [Reply(550, "5.7.511", "long detail")]),
    (b"250 a\r\n250 b\r\n354 c\r\n", [Reply(250, "", "a"), Reply(250, "", "b"), Reply(354, "", "c")]),
    (b"250 tab\there\r\n", [Reply(250, "", "tab here")]),
    (b"250 esc\x1b[31m\r\n", [Reply(250, "", "esc\\x1b[31m")]),
    (b"250 nul\x00 del\x7f\r\n", [Reply(250, "", "nul\\x00 del\\x7f")]),
    (b"250 cr\rLF\r\n", [Reply(250, "", "cr\\x0dLF")]),
    ("250 bidi\u202e nel\u0085 ls\u2028.\r\n".encode(), [Reply(250, "", "bidi\\u202e nel  ls .")]),
    ("250 für Ihre Anfrage\r\n".encode(), [Reply(250, "", "für Ihre Anfrage")]),
    (b"250 f\xfcr\r\n", [Reply(250, "", "f\ufffdr")]),
]


@pytest.mark.parametrize("read", [whole, singly])
@pytest.mark.parametrize(("octets", "replies"), GOOD, ids=[row[0][:40] for row in GOOD])
def test_replies(read, octets, replies):
    assert read(octets) == replies


BAD = [
    b"ok\r\n",
    b"\r\n",
    b"25\r\n",
    b"2500 ok\r\n",
    b"250x\r\n",
    b"250_ok\r\n",
    b"+25 ok\r\n",
    b"-25 ok\r\n",
    b" 25 ok\r\n",
    b"199 no\r\n",
    b"600 no\r\n",
    b"100 continue\r\n",
    b"000 no\r\n",
    b"\xd9\xa2\xd9\xa5\xd9\xa0 arabic\r\n",
    b"250-one\r\n251 two\r\n",
    b"250-one\r\ntwo\r\n",
    b"250-one\r\n\r\n",
    b"HTTP/1.1 400 Bad Request\r\n",
    b"\x16\x03\x01\n",
    b"250 " + b"x" * LINE_LIMIT + b"\r\n",
    b"x" * (LINE_LIMIT + 1),
    b"250-" + b"x" * LINE_LIMIT,
    b"250-a\r\n" * (LINES_LIMIT + 1),
    (b"250-" + b"x" * 2000 + b"\r\n") * 40,
]


@pytest.mark.parametrize("read", [whole, singly])
@pytest.mark.parametrize("octets", BAD, ids=[repr(octets[:20]) for octets in BAD])
def test_what_is_no_reply(read, octets):
    with pytest.raises(ReplyError):
        read(octets)


def test_limits_are_reached_without_error():
    line = b"250 " + b"x" * (LINE_LIMIT - 6) + b"\r\n"
    assert len(line) == LINE_LIMIT
    assert whole(line) == singly(line)
    assert len(whole(line)[0].text) == TEXT_LIMIT
    many = b"250-x\r\n" * (LINES_LIMIT - 1) + b"250 x\r\n"
    assert whole(many)[0].text.count("\n") == LINES_LIMIT - 1


def test_unfinished_is_pending():
    reader = ReplyReader()
    assert reader.feed(b"250-a\r\n") == []
    assert reader.pending
    assert reader.feed(b"250 b") == []
    assert reader.pending
    assert reader.feed(b"\r\n") == [Reply(250, "", "a\nb")]
    assert not reader.pending


def test_more_than_asked_for():
    reader = ReplyReader()
    assert len(reader.feed(b"250\n" * 20, most=19)) == 19
    assert "no command" in str(reader.broken)
    assert reader.pending


def test_what_comes_before_an_error_is_heard():
    reader = ReplyReader()
    assert reader.feed(b"550 5.1.1 no\r\nwhat\r\n") == [Reply(550, "5.1.1", "no")]
    assert "what" in str(reader.broken)
    assert reader.pending


def test_an_endless_line_is_noticed_before_it_is_gathered():
    reader = ReplyReader()
    reader.feed(b"x" * 1000)
    reader.feed(b"x" * 1000)
    with pytest.raises(ReplyError):
        reader.feed(b"x" * 1000)
    assert len(reader._rest) <= LINE_LIMIT


@given(st.binary(max_size=300))
def test_anything_is_a_reply_or_an_error(octets):
    try:
        replies = ReplyReader().feed(b"250 " + octets + b"\r\n")
    except ReplyError:
        return
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert reply.text.replace("\n", "").isprintable()
        assert str(reply).isprintable()


@given(st.lists(st.sampled_from([row[0] for row in GOOD]), max_size=6), st.lists(st.integers(0, 200), max_size=8))
def test_any_split_gives_the_same(parts, cuts):
    octets = b"".join(parts)
    reader, replies, start = ReplyReader(), [], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(octets)), len(octets)]:
        replies += reader.feed(octets[start:cut])
        start = cut
    assert replies == whole(octets)
