"""The reply to a message's end: what counts as one, whole and one byte at a time, and through a connection."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.smtp.client.final import FinalReader, plain
from relay.smtp.client.model import SessionError, Stage
from relay.smtp.client.replies import LINE_LIMIT, REPLY_LIMIT, ReplyError
from tests.support.answers import Close, Delay, Endless, Hang
from tests.support.client import SHORT, codes, dial, outgoing
from tests.support.receiver import Receiver

LONG = b"x" * (3 * LINE_LIMIT)

# What comes, and the code that it settles at once.
CERTAIN = [
    (b"250 2.0.0 queued\r\n", 250),
    (b"250\r\n", 250),
    (b"250 \r\n", 250),
    (b"250 ok\n", 250),
    (b"252 taken\r\n", 252),
    (b"299 taken\r\n", 299),
    (b"550 5.7.1 no\r\n", 550),
    (b"452 4.3.1 no room\r\n", 452),
    (b"\r\n250 ok\r\n", 250),
    (b"\n\n\r\r\n250 ok\n", 250),
    (b"scanning, please wait\r\n250 ok\r\n", 250),
    (b"ok\r\n250 ok\r\n", 250),
    (b"354 go on\r\n250 ok\r\n", 250),
    (b"100 continue\r\n250 ok\r\n", 250),
    (b"2501 messages\r\n250 ok\r\n", 250),
    (b"212.8.1.2 scanned it\r\n550 no\r\n", 550),
    (b"250ms later\r\n550 no\r\n", 550),
    (b"\x00\r\n250 ok\r\n", 250),
    (b"250 nul \x00 in it\r\n", 250),
    (b"garbage\r\n550 5.7.1 no\r\n", 550),
    (b"garbage\r\n451 4.7.1 later\r\n", 451),
    (b"250-foo\r\n250 bar\r\n", 250),
    (b"250-foo\r\n251 bar\r\n", 251),
    (b"250-foo\r\n\r\nbar\r\n250 baz\r\n", 250),
    (b"550-foo\r\n554 bar\r\n", 554),
    (b" 250 a copy of our log\r\n550 no\r\n", 550),
    (b"250 " + LONG + b"\r\n", 250),
    (b"250 " + LONG, 250),
    (b"550 " + LONG + b"\r\n", 550),
    (LONG + b"\r\n250 ok\r\n", 250),
    (b"250-" + LONG + b"\r\n250 ok\r\n", 250),
]

# What comes, and the code that it is worth when nothing more comes.
IN_THE_END = [
    (b"250-queued\r\n", 250),
    (b"250-queued\r\n250-for you\r\n", 250),
    (b"250-queued\r\nbye\r\n", 250),
    (b"250-queued", 250),
    (b"250 queued", 250),
    (b"250", 250),
    (b"250-" + LONG, 250),
    (b" 250 ok\r\n", 250),
    (b"\t 250 ok\r\n", 250),
    (b"\x00250 ok\r\n", 250),
    (b"\xef\xbb\xbf250 ok\r\n", 250),
    (b"250\tok\r\n", 250),
    (b"250: ok\r\n", 250),
    (b"250\x00ok\r\n", 250),
    (b"250OK\r\n", 250),
    (b" 550 no\r\n", 550),
    (b"451-later\r\n", 451),
    (b"", None),
    (b"\r\n\r\n", None),
    (b"25", None),
    (b"2\r\n", None),
    (b"queued, thanks\r\n", None),
    (b"ok\r\n", None),
    (b"354 go on\r\n", None),
    (b"2.0.0 queued\r\n", None),
    (b"212.8.1.2 scanned it\r\n", None),
    (b"250ms later\r\n", None),
    (b"2026-11-28 scanned\r\n", None),
    (b"HTTP/1.1 200 OK\r\n", None),
    (b"600 what\r\n", None),
    (b"\xd9\xa2\xd9\xa5\xd9\xa0 arabic\r\n", None),
    (b"250-queued\r\n550 or", None),
]


def whole(octets: bytes):
    reader = FinalReader()
    return reader.feed(octets), reader


def singly(octets: bytes):
    reader = FinalReader()
    for n in range(len(octets)):
        if (reply := reader.feed(octets[n : n + 1])) is not None:
            return reply, reader
    return None, reader


@pytest.mark.parametrize("read", [whole, singly])
@pytest.mark.parametrize(("octets", "code"), CERTAIN, ids=[repr(row[0])[:50] for row in CERTAIN])
def test_an_answer_that_is_certain(read, octets, code):
    reply, _ = read(octets)
    assert reply is not None
    assert reply.code == code


@pytest.mark.parametrize("read", [whole, singly])
@pytest.mark.parametrize(("octets", "code"), IN_THE_END, ids=[repr(row[0])[:50] for row in IN_THE_END])
def test_an_answer_that_counts_when_no_more_comes(read, octets, code):
    reply, reader = read(octets)
    assert reply is None
    assert reader.hopeful is (code is not None or octets.startswith(b"250-"))
    best = reader.best()
    assert (best and best.code) == code


def test_the_text_of_several_lines():
    reply, reader = whole(b"250-2.0.0 one\r\n250-2.0.0 two\r\n250 2.0.0 three\r\n")
    assert (reply.enhanced, reply.text) == ("2.0.0", "one\ntwo\nthree")
    assert reader.clean, "a connection may be kept after it"


@pytest.mark.parametrize("octets", [b"\r\n250 ok\r\n", b"250 ok\r\n\r\n", b"250 ok\r\n250 ok\r\n", b"250 " + LONG])
def test_what_is_out_of_order_is_noticed(octets):
    reply, reader = whole(octets)
    assert reply is not None
    assert not reader.clean


@pytest.mark.parametrize("read", [whole, singly])
@pytest.mark.parametrize("octets", [b"250-queued\r\n550 or not\r\n", b"550-no\r\n250 yes\r\n", b"250-a\r\n450-b\r\n"])
def test_lines_that_contradict_each_other(read, octets):
    with pytest.raises(ReplyError):
        read(octets)


@pytest.mark.parametrize("octets", [b"x" * 1000, b"\r\n" * 500, b"nothing of use\n" * 100])
def test_garbage_is_bounded(octets):
    reader = FinalReader()
    for _ in range(REPLY_LIMIT // len(octets)):
        assert reader.feed(octets) is None
        assert len(reader._rest) <= LINE_LIMIT
    with pytest.raises(ReplyError):
        reader.feed(octets)


def test_lines_without_an_end_are_bounded():
    reader = FinalReader()
    replies = [reader.feed(b"250-and so on\r\n") for _ in range(300)]
    assert next(reply.code for reply in replies if reply is not None) == 250


@pytest.mark.parametrize("octets", [b"250 ok\r\n", b"550 5.1.1 no\n", b"452 \r\n"])
def test_the_usual_form(octets):
    assert plain(octets) == whole(octets)[0]


@pytest.mark.parametrize(
    "octets",
    [b"250 ok", b"250-ok\r\n", b"250 ok\r\n\r\n", b"354 go\r\n", b"\r\n", b"250 " + LONG + b"\r\n", b"2500\r\n"],
)
def test_anything_else_is_left_to_the_reader(octets):
    assert plain(octets) is None


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_in_any_pieces_give_an_answer_an_error_or_nothing(octets, cuts):
    def read(parts):
        reader = FinalReader()
        try:
            for part in parts:
                if (reply := reader.feed(part)) is not None:
                    return reply
            return reader.best()
        except ReplyError:
            return None

    edges = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets)]
    reply = read([octets])
    assert read([octets[a:b] for a, b in itertools.pairwise(edges)]) == reply
    assert reply is None or (reply.code // 100 in (2, 4, 5) and str(reply).isprintable())


# -- through a connection ----------------------------------------------------------------------------------------------

ANSWERS = [
    (b"\r\n250 2.0.0 queued\r\n", 250),
    (b"stray text\r\n250 2.0.0 queued\r\n", 250),
    (Hang(b"250-queued\r\n"), 250),
    (Close(b"250-queued\r\n"), 250),
    (Close(b"250 queued"), 250),
    (Hang(b"250 queued"), 250),
    (b"250 " + LONG + b"\r\n", 250),
    (b"250 " + b"x" * 1_000_000 + b"\r\n", 250),
    (Endless(), 250),
    (Hang(b" 250 ok\r\n"), 250),
    (b"\r\n550 5.7.1 no\r\n", 550),
    (b"stray text\r\n451 4.7.1 later\r\n", 451),
    (Close(b"550-no\r\n"), 550),
]


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize(("answer", "code"), ANSWERS, ids=[repr(row[0])[:50] for row in ANSWERS])
async def test_a_garbled_reply_is_the_answer_and_the_connection_ends(answer, code, pipelining):
    async with Receiver(pipelining=pipelining, content=answer) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        result = await connection.send(outgoing("a@y.test", "b@y.test"))
        assert codes(result) == [code, code]
        assert not result.reusable
        assert not connection.usable
        await receiver.until(lambda: receiver.open == 0)


async def test_an_empty_line_ahead_of_the_reply_in_a_packet_of_its_own():
    async def apart(session, _):
        session.writer.write(b"\r\n")
        await session.writer.drain()
        return Delay(0.1, "250 2.0.0 queued")

    async with Receiver(content=apart) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        assert codes(await connection.send(outgoing())) == [250]
        assert not connection.usable


async def test_a_reply_of_several_lines_in_its_proper_form_keeps_the_connection():
    async with Receiver(content=b"250-2.0.0 queued\r\n250 2.0.0 as 1\r\n") as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        assert codes(await connection.send(outgoing())) == [250]
        assert codes(await connection.send(outgoing())) == [250]
        await connection.quit()


@pytest.mark.parametrize("garbage", [b"", b"\r\n", b"queued, thanks\r\n", b"354 more\r\n", b"25"])
@pytest.mark.parametrize("end", [Hang, Close])
async def test_without_any_answer_what_became_of_it_is_unknown(garbage, end):
    async with Receiver(content=end(garbage)) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert (caught.value.stage, caught.value.kind) == (Stage.END, "timeout" if end is Hang else "closed")
        assert caught.value.ambiguous


async def test_garbage_does_not_extend_the_wait():
    async def drip(session, _):
        while True:
            session.writer.write(b"still at it\r\n")
            await session.writer.drain()
            await asyncio.sleep(0.02)

    async with Receiver(content=drip) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        with pytest.raises(SessionError) as caught:
            await connection.send(outgoing())
        assert (caught.value.stage, caught.value.kind) == (Stage.END, "timeout")


async def test_who_was_refused_already_stays_refused_when_the_end_is_not_answered():
    """With PIPELINING a message goes out as a single dot when nobody was accepted (RFC 2920 §3.1)."""
    async with Receiver(rcpt="550 5.1.1 no", data="354 go", content=Hang()) as receiver:
        connection = await dial(receiver, timeouts=SHORT)
        assert codes(await connection.send(outgoing("a@y.test", "b@y.test"))) == [550, 550]
        assert not connection.usable
