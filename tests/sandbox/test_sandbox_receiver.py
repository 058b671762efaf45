"""The sandbox's receiver on a real socket, spoken to with smtplib."""

import asyncio
import contextlib
import smtplib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.process.sockets import bind_one
from relay.sandbox.serve import run_receiver
from relay.sandbox.store import SandboxStore
from relay_config.schema import Sandbox, Settings
from tests.support.running import free_port


class Receiver:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.settings = Settings(
            hostname="relay.test", data_dir=str(folder), sandbox=Sandbox(receiver=f"127.0.0.1:{self.port}")
        )
        self.store = SandboxStore(folder / "sandbox")

    async def dialog(self, steps):
        """Run `steps(client)` in a thread, as smtplib blocks."""

        def work():
            with smtplib.SMTP("127.0.0.1", self.port, timeout=20) as client:
                client.ehlo("client.test")
                return steps(client)

        return await asyncio.to_thread(work)


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[Receiver]:
    receiver = Receiver(tmp_path)
    task = asyncio.create_task(run_receiver(receiver.settings, bind_one(f"127.0.0.1:{receiver.port}")))
    async with asyncio.timeout(10):
        while True:
            assert not task.done(), task.exception()
            with contextlib.suppress(ConnectionRefusedError):
                _, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
                writer.close()
                await writer.wait_closed()
                break
            await asyncio.sleep(0.01)
    yield receiver
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_message_arrives_as_it_was_sent(receiver):
    octets = b"From: a@example.test\r\nSubject: Dots\r\n\r\n.one\r\n..two\r\n\xff\r\n"
    await receiver.dialog(lambda c: c.sendmail("a@example.test", ["b@x.test", "c@y.test"], octets, ["BODY=8BITMIME"]))
    [envelope] = receiver.store.envelopes()
    assert envelope.sender == "a@example.test"
    assert envelope.recipients == ("b@x.test", "c@y.test")
    assert envelope.subject == "Dots"
    assert envelope.helo == "client.test"
    assert receiver.store.content(envelope.id) == octets


async def test_a_large_message_arrives(receiver):
    octets = b"Subject: Large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"0123456789" * 7 + b"\r\n") * 20_000
    await receiver.dialog(lambda c: c.sendmail("a@example.test", ["b@x.test"], octets))
    [envelope] = receiver.store.envelopes()
    assert receiver.store.content(envelope.id) == octets


async def test_magic_recipients_over_the_wire(receiver):
    def steps(client):
        client.mail("a@example.test")
        replies = {name: client.rcpt(f"{name}@x.test") for name in ("bounce", "defer", "full", "greylist", "someone")}
        replies["again"] = client.rcpt("greylist@x.test")
        replies["data"] = client.data(b"Subject: x\r\n\r\nx\r\n")
        client.mail("a@example.test")
        client.rcpt("reject-policy@x.test")
        replies["policy"] = client.data(b"Subject: x\r\n\r\nx\r\n")
        return {name: (code, text[:5].decode()) for name, (code, text) in replies.items()}

    assert await receiver.dialog(steps) == {
        "bounce": (550, "5.1.1"),
        "defer": (450, "4.2.0"),
        "full": (452, "4.2.2"),
        "greylist": (451, "4.7.1"),
        "someone": (250, "2.1.5"),
        "again": (250, "2.1.5"),
        "data": (250, "2.0.0"),
        "policy": (550, "5.7.1"),
    }
    [envelope] = receiver.store.envelopes()
    assert envelope.recipients == ("someone@x.test", "greylist@x.test")


async def test_many_refusals_do_not_end_the_session(receiver):
    def steps(client):
        client.mail("a@example.test")
        return {client.rcpt(f"bounce+{n}@x.test")[0] for n in range(50)}

    assert await receiver.dialog(steps) == {550}


async def test_what_leaves_after_data_began_is_not_kept(receiver, tmp_path):
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    writer.write(b"EHLO c.test\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n")
    async with asyncio.timeout(10):
        while not (await reader.readline()).startswith(b"354"):
            pass
    writer.write(b"Subject: x\r\n\r\n" + b"x\r\n" * 200_000)
    await writer.drain()
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    # A later client is answered, by when the first one's end was noticed.
    await receiver.dialog(lambda c: c.sendmail("a@example.test", ["b@x.test"], b"Subject: y\r\n\r\ny\r\n"))
    assert [envelope.subject for envelope in receiver.store.envelopes()] == ["y"]
    assert len(list((tmp_path / "sandbox").iterdir())) == 2, "no leftover of the message that was broken off"
