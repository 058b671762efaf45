"""What becomes of an accepted message: its trace, its envelope, its signature, its flags."""

import pytest

from relay.model.transaction import RecipientPath, Transaction
from relay_queue.ids import is_id
from relay_queue.states import State
from tests.support.dkim_keys import key, results
from tests.support.submitting import BODY, HEAD, Submitting


async def test_an_accepted_message(world):
    reply = await world.send(world.alice(), HEAD + b"\r\n" + BODY)
    assert (reply.code, reply.enhanced) == (250, "2.0.0")
    message_id = reply.text.removeprefix("Ok: queued as ")
    assert is_id(message_id)
    [put] = world.outlet.offered
    assert world.outlet.admitted == [put]
    assert put.body.head == (
        b"Received: from client.test ([192.0.2.7])\r\n"
        b"\tby mail.example.com with ESMTPSA (TLSv1.3 X)\r\n"
        b"\tid " + message_id.encode() + b"\r\n\tfor <bob@example.net>;\r\n"
        b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n" + HEAD + b"Date: Fri, 02 Jan 2026 03:04:05 +0000\r\n"
        b"Message-ID: <" + message_id.encode() + b"@mail.example.com>\r\n\r\n" + BODY
    )
    message, [recipient] = put.entry.message, put.entry.recipients
    assert (message.id, message.sender, message.user, message.origin) == (
        message_id,
        "alice@example.org",
        "alice",
        "smtp",
    )
    assert message.size == len(put.body.head)
    assert (message.eightbit, message.smtputf8) == (False, False)
    assert (recipient.address, recipient.domain, recipient.state, recipient.owner) == (
        "bob@example.net",
        "example.net",
        State.ACTIVE,
        0,
    )
    assert message_id in world.store.messages
    assert [arguments[0].message.id for arguments in world.recorder.named("accepted")] == [message_id]


async def test_several_recipients_share_one_message_and_are_not_named(world):
    await world.send(world.alice(), HEAD + b"\r\n" + BODY, "a@x.test", "b@y.test")
    [put] = world.outlet.offered
    assert [(one.n, one.domain) for one in put.entry.recipients] == [(0, "x.test"), (1, "y.test")]
    assert b"for <" not in put.body.head


async def test_dsn_parameters_are_kept(world):
    peer = world.alice()
    transaction = Transaction("alice@example.org", "example.org", ret="FULL", envid="id+2B1")
    transaction.recipients.append(RecipientPath("b@x.test", "x.test", "SUCCESS,DELAY", "rfc822;b@x.test"))
    incoming = world.handler.incoming(peer, transaction)
    incoming.write(HEAD + b"\r\n")
    await world.handler.accept(peer, transaction, incoming)
    [put] = world.outlet.offered
    assert (put.entry.message.ret, put.entry.message.envid) == ("FULL", "id+2B1")
    assert (put.entry.recipients[0].notify, put.entry.recipients[0].orcpt) == ("SUCCESS,DELAY", "rfc822;b@x.test")


async def test_a_large_message_lies_in_a_file(world):
    body = b"0123456789abcdef\r\n" * 60_000
    reply = await world.send(world.alice(), HEAD + b"\r\n" + body)
    assert reply.code == 250
    [put] = world.outlet.offered
    assert put.body.file is not None
    assert put.body.file_size == len(body)
    assert put.body.head.endswith(b"\r\n\r\n")
    assert world.octets(put).endswith(HEAD + put.body.head.partition(HEAD)[2] + body)
    assert put.entry.message.size == len(put.body.head) + len(body)


BODIES = {"small": BODY, "none": b"", "8-bit": "grüße\r\n".encode(), "large": b"line \r\n" * 100_000}


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_signed(tmp_path, algorithm, body):
    one = key(algorithm=algorithm)
    world = Submitting(tmp_path, keys=[one])
    assert (await world.send(world.alice(), HEAD + b"\r\n" + body)).code == 250
    [put] = world.outlet.offered
    octets = world.octets(put)
    assert octets.startswith(b"Received: ")
    assert results(octets, one) == [True]
    assert len(octets) == put.entry.message.size
    assert put.entry.message.eightbit is not body.isascii()
    world.handler.close()


async def test_signed_for_a_sub_domain_by_the_parents_key(tmp_path):
    one = key("example")
    world = Submitting(tmp_path, keys=[one])
    await world.send(world.alice(), b"From: x@shop.example\r\n\r\n")
    assert results(world.outlet.offered[0].body.head, one) == [True]


async def test_not_signed_for_others(tmp_path):
    world = Submitting(tmp_path, keys=[key("other.test")])
    await world.send(world.alice(), HEAD + b"\r\n")
    assert b"DKIM-Signature" not in world.outlet.offered[0].body.head


async def test_flags(world):
    peer = world.peer("127.0.0.1", "127.0.0.1:25")
    head, utf8_head = HEAD + b"\r\n", "From: ä <a@x.test>\r\n\r\n".encode()
    cases = [
        ({}, head, "b@x.test", (False, False)),
        ({"eightbit": True}, head, "b@x.test", (True, False)),
        ({}, head + b"\xc3\xa4\r\n", "b@x.test", (True, False)),
        ({}, utf8_head, "b@x.test", (True, False)),
        ({"smtputf8": True}, head, "b@x.test", (False, False)),
        ({"smtputf8": True}, utf8_head, "b@x.test", (True, True)),
        ({"smtputf8": True}, head, "bä@x.test", (True, True)),
        ({"smtputf8": True}, head + b"\xc3\xa4\r\n", "b@x.test", (True, False)),
    ]
    for fields, content, recipient, flags in cases:
        reply = await world.send(peer, content, recipient, **fields)
        assert reply.code == 250
        message = world.outlet.offered[-1].entry.message
        assert (message.eightbit, message.smtputf8) == flags, (fields, content, recipient)
