"""Faults of the queue and of delivery: a temporary answer that tells nothing, and nothing left behind."""

import asyncio

import pytest

from relay.model.peer import Peer
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply
from relay_queue.protocol import QueueError, QueueFailedError, QueueFullError
from tests.support.submitting import ALICE, BODY, HEAD, refusal


@pytest.mark.parametrize(
    ("error", "code", "told", "sync"),
    [
        (QueueFullError("no room"), "452 4.3.1", False, False),
        (QueueFullError("no room"), "452 4.3.1", False, True),
        (QueueFailedError("fsync"), "421 4.3.0", False, False),
        (QueueError("odd"), "451 4.3.0", True, False),
        (QueueError("closed"), "451 4.3.0", True, True),
        (RuntimeError("secret detail"), "451 4.3.0", True, False),
        (RuntimeError("secret detail"), "451 4.3.0", True, True),
        (asyncio.CancelledError(), "451 4.3.0", True, False),
    ],
)
@pytest.mark.parametrize("body", [BODY, b"line\r\n" * 100_000], ids=["small", "large"])
async def test_a_queue_that_fails(world, tmp_path, error, code, told, sync, body):
    peer = world.alice()
    transaction = Transaction("alice@example.org", "example.org")
    transaction.recipients.append(RecipientPath("b@x.test", "x.test"))
    incoming = world.handler.incoming(peer, transaction)
    incoming.write(HEAD + b"\r\n" + body)
    world.queue.error, world.queue.sync = error, sync
    reply = await world.handler.accept(peer, transaction, incoming)
    assert refusal(reply) == code
    assert "secret" not in reply.text
    assert bool(world.recorder.named("problem")) is told
    assert not world.outlet.offered
    assert not world.recorder.named("accepted")
    assert not [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]


async def test_a_failed_queue_closes_the_door(world):
    world.queue.error = QueueFailedError("fsync")
    assert refusal(world.handler.connected(Peer("192.0.2.1", 1, "0.0.0.0:587"))) == "421 4.3.0"
    assert refusal(world.handler.mail(Peer("192.0.2.1", 1, "x", identity=ALICE), Transaction("", ""))) == "421 4.3.0"


async def test_stopping_lets_what_was_begun_end(world):
    peer = world.alice()
    transaction = Transaction("alice@example.org", "example.org")
    transaction.recipients.append(RecipientPath("b@x.test", "x.test"))
    incoming = world.handler.incoming(peer, transaction)
    incoming.write(HEAD + b"\r\n")
    world.handler.stop()
    assert refusal(world.handler.connected(Peer("192.0.2.1", 1, "0.0.0.0:587"))) == "421 4.3.2"
    assert refusal(world.send(peer, HEAD)) == "421 4.3.2"
    assert (await world.handler.accept(peer, transaction, incoming)).code == 250


async def test_a_fault_after_the_commit_does_not_undo_the_250(world):
    def broken(put):
        raise RuntimeError("lanes")

    world.outlet.offer = broken
    assert (await world.send(world.alice(), HEAD)).code == 250
    assert world.recorder.named("problem")[0][0] == "offer"


async def test_a_client_that_hangs_up_before_the_reply(world):
    verdict = world.send(world.alice(), HEAD)
    verdict.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(world.outlet.offered) == len(world.store.messages) == 1


async def test_a_fault_of_the_outlet_is_temporary(world):
    def broken(put):
        raise RuntimeError("lanes")

    world.outlet.admit = broken
    assert refusal(await world.send(world.alice(), HEAD)) == "451 4.3.0"
    assert not world.store.messages


async def test_refusals_of_the_session_are_told(world):
    peer, reply = world.peer(), Reply(500, "5.5.2", "x")
    world.handler.refused(peer, "FOO", reply)
    world.handler.disconnected(peer)
    assert world.recorder.named("refused") == [(peer, "FOO", reply)]
