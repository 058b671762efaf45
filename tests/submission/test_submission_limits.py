"""A user's hour, the disk, and how a reload changes them."""

import asyncio
import re

import pytest

from relay.message.dkim.sign import KeyRing
from relay.model.transaction import RecipientPath, Transaction
from relay_config.words import Size
from relay_queue.protocol import QueueFullError
from tests.support.dkim_keys import key, results
from tests.support.submitting import HEAD, Submitting, refusal


async def test_messages_per_hour(tmp_path):
    world = Submitting(tmp_path, messages_per_hour=2)
    peer = world.alice()
    for _ in range(2):
        assert (await world.send(peer, HEAD)).code == 250
    reply = world.send(peer, HEAD)
    assert refusal(reply) == "451 4.7.1"
    assert re.search(r"2 messages an hour; try again in \d+ minutes$", reply.text)
    world.now += 3601
    assert (await world.send(peer, HEAD)).code == 250


async def test_messages_sent_at_once_do_not_pass_the_limit(tmp_path):
    world = Submitting(tmp_path, messages_per_hour=3)
    peer = world.alice()
    verdicts = []
    transactions = [Transaction("alice@example.org", "example.org") for _ in range(6)]
    for transaction in transactions:
        assert world.handler.mail(peer, transaction) is None
        transaction.recipients.append(RecipientPath("b@x.test", "x.test"))
    for transaction in transactions:
        incoming = world.handler.incoming(peer, transaction)
        incoming.write(HEAD + b"\r\n")
        verdicts.append(world.handler.accept(peer, transaction, incoming))
    codes = [(await verdict).code for verdict in verdicts]
    assert codes == [250] * 3 + [451] * 3


async def test_recipients_per_hour(tmp_path):
    world = Submitting(tmp_path, recipients_per_hour=3)
    peer = world.alice()
    assert refusal(world.send(peer, HEAD, *[f"r{n}@x.test" for n in range(4)])) == "450 4.7.1"
    assert (await world.send(peer, HEAD, "a@x.test", "b@x.test")).code == 250
    assert refusal(world.send(peer, HEAD, "a@x.test", "b@x.test")) == "450 4.7.1"
    assert (await world.send(peer, HEAD, "a@x.test")).code == 250


@pytest.mark.parametrize("sync", [False, True])
async def test_what_could_not_be_stored_does_not_count(tmp_path, sync):
    world = Submitting(tmp_path, messages_per_hour=1, recipients_per_hour=1)
    peer = world.alice()
    world.queue.error, world.queue.sync = QueueFullError("no room"), sync
    for _ in range(3):
        assert refusal(await world.send(peer, HEAD)) == "452 4.3.1"
        await asyncio.sleep(0)
    world.queue.error = None
    assert (await world.send(peer, HEAD)).code == 250
    assert refusal(world.send(peer, HEAD)) == "451 4.7.1"


async def test_a_message_refused_after_it_was_counted_does_not_count(tmp_path):
    """Two messages pass their RCPTs at the same time; the one that finds no room gives back what it counted."""
    world = Submitting(tmp_path, messages_per_hour=10, recipients_per_hour=5)
    peer = world.alice()
    wide, narrow = Transaction("alice@example.org", "example.org"), Transaction("alice@example.org", "example.org")
    for transaction, count in ((wide, 4), (narrow, 3)):
        assert world.handler.mail(peer, transaction) is None
        for n in range(count):
            path = RecipientPath(f"{n}@x.test", "x.test")
            assert world.handler.rcpt(peer, transaction, path) is None
            transaction.recipients.append(path)
    codes = []
    for transaction in (wide, narrow, narrow):
        incoming = world.handler.incoming(peer, transaction)
        incoming.write(HEAD + b"\r\n")
        codes.append((await world.handler.accept(peer, transaction, incoming)).code)
    assert codes == [250, 450, 450]
    # One recipient of five is left, and nine messages of ten.
    assert (await world.send(peer, HEAD)).code == 250
    assert refusal(world.send(peer, HEAD)) == "450 4.7.1"
    world.handler.reload(world.settings(messages_per_hour=10), KeyRing({}))
    for _ in range(8):
        assert (await world.send(peer, HEAD)).code == 250
    assert refusal(world.send(peer, HEAD)) == "451 4.7.1"


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"To: x\r\n\r\n", 554), (b"From: m@evil.test\r\n\r\n", 550), (HEAD + b"\r\n", 452)],
    ids=["header", "author", "disk"],
)
@pytest.mark.parametrize("body", [b"", b"x" * 400_000], ids=["small", "large"])
async def test_a_refused_message_does_not_count(tmp_path, content, code, body):
    world = Submitting(tmp_path, messages_per_hour=2, recipients_per_hour=2)
    peer = world.alice()
    world.queue.error = QueueFullError("no room")
    for _ in range(5):
        assert (await world.send(peer, content + body)).code == code
        await asyncio.sleep(0)
    world.queue.error = None
    for _ in range(2):
        assert (await world.send(peer, HEAD)).code == 250
    assert refusal(world.send(peer, HEAD)) == "451 4.7.1"


async def test_trusted_networks_have_no_such_limit(tmp_path):
    world = Submitting(tmp_path, messages_per_hour=1, recipients_per_hour=1)
    for _ in range(3):
        assert (await world.send(world.peer("127.0.0.1", "127.0.0.1:25"), HEAD, "a@x.test", "b@x.test")).code == 250


async def test_a_full_disk(tmp_path):
    world = Submitting(tmp_path, free_disk=Size(1 << 60))
    assert refusal(world.send(world.alice(), HEAD)) == "452 4.3.1"
    assert refusal(world.handler.incoming(world.alice(), Transaction("", ""))) == "452 4.3.1"


async def test_a_disk_that_cannot_be_examined(tmp_path):
    world = Submitting(tmp_path / "missing")
    assert refusal(world.send(world.alice(), HEAD)) == "451 4.3.0"
    assert world.recorder.named("problem")[0][0] == "disk"


async def test_reload(world):
    one = key()
    world.handler.reload(world.settings(("192.0.2.0/24",), messages_per_hour=1), KeyRing({"example.org": [one]}))
    assert not world.peer("127.0.0.1", "127.0.0.1:25").trusted
    peer = world.peer("192.0.2.8", "127.0.0.1:25")
    assert peer.trusted
    assert (await world.send(peer, HEAD)).code == 250
    assert results(world.outlet.offered[0].body.head, one) == [True]
    assert (await world.send(world.alice(), HEAD)).code == 250
    assert refusal(world.send(world.alice(), HEAD)) == "451 4.7.1"
