"""The next transaction's commands behind a message's content (RFC 2920 §3.1): quicker, and no verdict slips.

`Chain` plays a lane: it gives its connection the next message whenever that asks, and sends them in order.
"""

import asyncio
import io
from collections import deque

import pytest

from relay.smtp.client import connection as module
from relay.smtp.client.connect import connect
from relay.smtp.client.connection import Connection
from relay.smtp.client.model import Outgoing, Result, SessionError, Stage, Target, Timeouts, TlsPolicy
from tests.smtp_client.test_hostile import SCRIPTS
from tests.support.answers import Close, Default, Delay, Hang
from tests.support.client import SHORT, TLS, codes, dial, outgoing
from tests.support.receiver import Receiver


class Chain:
    """What `count` messages came to, each to u<n>@y.test: a result or an error."""

    def __init__(self, connection: Connection, messages: list[Outgoing]) -> None:
        self.connection = connection
        self.waiting = deque(messages)
        self.given: deque[Outgoing] = deque()
        self.followed = 0
        self.ends: list[Result | SessionError] = []
        connection.follow = self.follow

    def follow(self) -> Outgoing | None:
        if not self.waiting:
            return None
        self.followed += 1
        self.given.append(self.waiting.popleft())
        return self.given[-1]

    async def run(self) -> list[Result | SessionError]:
        """Send until all are sent, or the connection is of no more use."""
        while self.given or (self.waiting and self.connection.usable):
            message = self.given.popleft() if self.given else self.waiting.popleft()
            try:
                self.ends.append(await self.connection.send(message))
            except SessionError as error:
                self.ends.append(error)
        return self.ends

    async def following(self) -> None:
        """Until one follows."""
        while not self.followed:
            await asyncio.sleep(0.01)

    def codes(self) -> list[list[int]]:
        """Of the results."""
        return [codes(end) for end in self.ends if isinstance(end, Result)]


def messages(count: int) -> list[Outgoing]:
    return [outgoing(f"u{n}@y.test", content=f"Subject: {n}\r\n\r\nbody\r\n".encode()) for n in range(count)]


def subjects(receiver: Receiver) -> list[str]:
    return [message.content.split(b"\r\n")[0].decode()[9:] for message in receiver.messages]


async def test_commands_go_out_behind_the_content():
    """The peer sees them without having said what became of the message."""
    seen, over = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        writer.write(b"220 mx.test\r\n")
        await reader.readline()
        writer.write(b"250-mx.test\r\n250 PIPELINING\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 a\r\n250 b\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 first\r\n")
        await reader.readuntil(b"DATA\r\n")
        writer.write(b"250 a\r\n250 b\r\n354 go\r\n")
        await reader.readuntil(b"\r\n.\r\n")
        assert await reader.readuntil(b"DATA\r\n") == b"MAIL FROM:<s@ext.test>\r\nRCPT TO:<u2@y.test>\r\nDATA\r\n"
        seen.set()
        writer.write(b"250 second\r\n250 a\r\n550 no\r\n554 none\r\n")
        await reader.read()
        writer.close()
        over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        target = Target("mx.test", *server.sockets[0].getsockname())
        own = {"hostname": "c.test", "tls": TLS, "credentials": None, "source": None, "timeouts": Timeouts()}
        connection = await connect(target, TlsPolicy.NONE, **own)
        chain = Chain(connection, messages(3))
        await chain.run()
        assert seen.is_set()
        assert chain.codes() == [[250], [250], [550]]
        await connection.quit()
        await over.wait()


@pytest.mark.parametrize("starttls", [False, True])
async def test_each_gets_its_own_replies(starttls):
    async with Receiver(
        starttls=starttls,
        rcpt={"u3@y.test": "550 5.1.1 no", "u5@y.test": "450 4.2.0 later"},
        content=[Default(), Default(), "554 5.6.0 not this", Default(), "452 4.3.1 full"],
    ) as receiver:
        connection = await dial(receiver, TlsPolicy.REQUIRED if starttls else TlsPolicy.NONE)
        chain = Chain(connection, messages(9))
        await chain.run()
        assert chain.codes() == [[250], [250], [554], [550], [250], [450], [452], [452], [452]]
        assert subjects(receiver) == ["0", "1", "4"]
        assert chain.followed >= 4
        assert len(receiver.sessions) == 1
        assert not receiver.problems
        await connection.quit()


async def test_one_that_is_refused_here_takes_no_reply():
    async with Receiver(size=1000) as receiver:
        connection = await dial(receiver)
        large = outgoing("u2@y.test", content=b"x" * 2000 + b"\r\n")
        chain = Chain(connection, [*messages(2), large, *messages(2)])
        await chain.run()
        assert chain.codes() == [[250], [250], [552], [250], [250]]
        assert subjects(receiver) == ["0", "1", "0", "1"]
        await connection.quit()


@pytest.mark.parametrize(
    "features", [{"pipelining": False}, {"extra": ("LIMITS MAILMAX=9",)}, {"extra": ("LIMITS RCPTMAX=5",)}]
)
async def test_nothing_follows_where_it_may_not(features):
    async with Receiver(**features) as receiver:
        chain = Chain(await dial(receiver), messages(4))
        await chain.run()
        assert chain.codes() == [[250]] * 4
        assert chain.followed == 0
        await chain.connection.quit()


async def test_nothing_follows_a_large_message_or_the_first_of_a_connection():
    async with Receiver() as receiver:
        connection = await dial(receiver)
        head = b"Subject: large\r\n\r\n"
        body = b"x" * 78 + b"\r\n"
        large = outgoing("u@y.test", content=head, size=len(head) + 80000, open_file=lambda: io.BytesIO(body * 1000))
        first, second = messages(2)
        chain = Chain(connection, [first, large, second])
        await chain.run()
        assert chain.codes() == [[250]] * 3
        assert chain.followed == 0
        await connection.quit()


@pytest.mark.parametrize(("script", "stage", "kind"), SCRIPTS, ids=[repr(row[0])[:60] for row in SCRIPTS])
async def test_a_follower_that_breaks(script, stage, kind):
    """As in the first transaction of a connection: the one before it keeps its reply, nothing hangs, nothing leaks."""
    later = {
        name: [Default(), Default(), *(answer if isinstance(answer, list) else [answer])]
        for name, answer in script.items()
    }
    async with Receiver(**later) as receiver:
        chain = Chain(await dial(receiver, timeouts=SHORT), [*messages(2), outgoing("u2@y.test", "v2@y.test")])
        await chain.run()
        assert chain.followed == 1
        assert chain.codes()[:2] == [[250]] * 2
        error = chain.ends[2]
        assert isinstance(error, SessionError)
        assert stage is None or error.stage is stage
        assert kind is None or error.kind == kind
        assert not any(reply is not None and reply.code < 400 for reply in error.partial)
        assert chain.connection.closed
        await receiver.until(lambda: receiver.open == 0)
        assert subjects(receiver)[:2] == ["0", "1"]


@pytest.mark.parametrize(
    "end", [Close(), Close(reset=True), Close("250 2.0.0 ok"), "421 4.3.0 bye", Hang(), "354 more", b"what\r\n"]
)
async def test_a_follower_whose_connection_ends(end):
    """Nothing of its message was sent and nobody answered it: another connection may take it at once."""
    async with Receiver(content=[Default(), end]) as receiver:
        chain = Chain(await dial(receiver, timeouts=SHORT), messages(3))
        await chain.run()
        assert chain.followed == 1
        follower = chain.ends[2]
        assert isinstance(follower, SessionError)
        assert follower.stage is Stage.MAIL
        assert follower.fresh_connection_helps
        assert "2" not in subjects(receiver)
        assert not any(reply for reply in follower.partial)


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_two_replies_to_a_message_never_pass_for_verdicts(pause):
    """A second reply to the end counts as MAIL's, MAIL's as RCPT's and so on; the follower is asked again elsewhere."""

    async def twice(session, _):
        await session.say("250 2.0.0 queued", "")
        if pause:
            await session._flush()
            await asyncio.sleep(pause)
        return b"250 2.0.0 really\r\n"

    refusals = {"u2@y.test": "250 ok", "v2@y.test": "550 5.1.1 no such user"}
    data = [Default(), Default(), Delay(0.1)]  # so that its reply does not come as one too many, which is seen
    async with Receiver(rcpt=refusals, data=data, content=[Default(), twice]) as receiver:
        chain = Chain(await dial(receiver, timeouts=SHORT), [*messages(2), outgoing("u2@y.test", "v2@y.test")])
        await chain.run()
        assert chain.codes() == [[250], [250]]
        follower = chain.ends[2]
        assert isinstance(follower, SessionError)
        assert not any(follower.partial)
        assert follower.fresh_connection_helps or follower.kind == "protocol"


async def test_a_follower_does_not_wait_for_a_slow_end(monkeypatch):
    monkeypatch.setattr(module, "_FOLLOWER_WAITS", 0.1)
    slow = asyncio.Event()
    async with Receiver(content=[Default(), Delay(slow)]) as receiver:
        chain = Chain(await dial(receiver), messages(3))
        running = asyncio.create_task(chain.run())
        await chain.following()
        follower = chain.connection._begun[0]
        async with asyncio.timeout(5):
            await asyncio.wait([follower.waiter])
        assert len(chain.ends) == 1, "the slow one still waits for its reply"
        slow.set()
        await running
        assert chain.codes() == [[250], [250]]
        assert not chain.ends[1].reusable
        assert chain.ends[2].fresh_connection_helps
        await receiver.until(lambda: receiver.open == 0)
        assert subjects(receiver) == ["0", "1"]


async def test_a_message_with_a_bare_newline_is_followed_by_nothing():
    async with Receiver() as receiver:
        good, bad, other = messages(3)
        bad.head = b"Subject: x\n\nsmuggled\r\n"
        chain = Chain(await dial(receiver), [good, bad, other])
        await chain.run()
        assert chain.followed == 0
        assert chain.ends[1].kind == "local"
        assert subjects(receiver) == ["0"]


async def test_cancelling_ends_all():
    async with Receiver(content=[Default(), Hang()]) as receiver:
        chain = Chain(await dial(receiver), messages(3))
        running = asyncio.create_task(chain.run())
        await chain.following()
        running.cancel()
        await asyncio.wait([running])
        assert chain.connection.closed
        with pytest.raises(SessionError) as caught:
            await chain.connection.send(chain.given[0])
        assert caught.value.fresh_connection_helps
        await receiver.until(lambda: receiver.open == 0)
        assert subjects(receiver) == ["0"]
