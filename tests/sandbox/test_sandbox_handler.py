"""The policy of the sandbox's receiver, asked directly."""

import asyncio
from pathlib import Path

import pytest

from relay.message.incoming import Incoming
from relay.model.peer import Peer
from relay.model.transaction import RecipientPath, Transaction
from relay.sandbox.handler import SandboxHandler, queue_id_of, subject_of
from relay.sandbox.magic import MEANINGS, Greylist, magic
from relay.sandbox.store import SandboxStore
from relay.smtp.reply import Reply


@pytest.fixture
def store(tmp_path: Path) -> SandboxStore:
    store = SandboxStore(tmp_path / "sandbox")
    store.prepare()
    return store


@pytest.fixture
def handler(store) -> SandboxHandler:
    return SandboxHandler(store, clock=lambda: 1_700_000_000.0, slow_seconds=0.01)


def peer() -> Peer:
    return Peer(address="127.0.0.1", port=40000, listener="127.0.0.1:2599", helo="relay.test", tls="TLSv1.3 X")


def transaction(*recipients: str, sender: str = "a@example.test") -> Transaction:
    paths = [RecipientPath(address=r, domain=r.rpartition("@")[2]) for r in recipients]
    return Transaction(sender=sender, sender_domain="example.test", recipients=paths)


def content(handler: SandboxHandler, octets: bytes = b"Subject: Hi\r\n\r\nHello\r\n") -> Incoming:
    incoming = handler.incoming(peer(), transaction())
    assert isinstance(incoming, Incoming)
    incoming.write(octets)
    incoming.close()
    return incoming


def rcpt(handler: SandboxHandler, address: str, sender: str = "a@example.test") -> Reply | None:
    to = RecipientPath(address=address, domain=address.rpartition("@")[2])
    return handler.rcpt(peer(), transaction(sender=sender), to)


async def test_everyone_is_welcome(handler):
    client = peer()
    assert handler.connected(client) is None
    assert client.trusted
    assert handler.mail(client, transaction()) is None
    assert rcpt(handler, "anyone@anywhere.test") is None


async def test_auth_is_not_offered(handler):
    answer = await handler.authenticate(peer(), "u", "p")
    assert isinstance(answer, Reply)
    assert answer.permanent


async def test_a_message_is_kept_with_its_envelope(handler, store):
    reply = await handler.accept(peer(), transaction("b@example.test", "c@example.test"), content(handler))
    assert reply.code == 250
    [envelope] = store.envelopes()
    assert envelope.id in reply.text
    assert envelope.sender == "a@example.test"
    assert envelope.recipients == ("b@example.test", "c@example.test")
    assert envelope.subject == "Hi"
    assert envelope.size == 22
    assert (envelope.helo, envelope.tls, envelope.received_at) == ("relay.test", "TLSv1.3 X", 1_700_000_000.0)
    assert store.content(envelope.id) == b"Subject: Hi\r\n\r\nHello\r\n"


async def test_a_large_message_passes_through_a_file(handler, store, tmp_path):
    body = b"0123456789abcde\r\n" * 40_000
    incoming = content(handler, b"Subject: Large\r\n\r\n" + body)
    assert incoming.file is not None
    reply = await handler.accept(peer(), transaction("b@example.test"), incoming)
    assert reply.code == 250
    [envelope] = store.envelopes()
    assert store.content(envelope.id) == b"Subject: Large\r\n\r\n" + body
    assert len(list((tmp_path / "sandbox").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "code", "enhanced"),
    [("bounce", 550, "5.1.1"), ("defer", 450, "4.2.0"), ("full", 452, "4.2.2"), ("greylist", 451, "4.7.1")],
)
async def test_refused_at_rcpt(handler, name, code, enhanced):
    for address in (f"{name}@example.test", f"{name.upper()}@other.test", f"{name}+tag@example.test"):
        reply = rcpt(handler, address)
        assert reply is not None
        assert (reply.code, reply.enhanced) == (code, enhanced)


async def test_greylisting_lets_the_second_attempt_of_a_pair_pass(handler):
    assert rcpt(handler, "greylist@example.test") is not None
    assert rcpt(handler, "greylist@example.test", sender="other@example.test") is not None
    assert rcpt(handler, "greylist@example.test") is None
    assert rcpt(handler, "greylist@example.test") is None


def test_greylisting_is_bounded():
    greylist = Greylist()
    greylist.check("first", "x")
    for n in range(10_000):
        greylist.check(str(n), "x")
    assert greylist.check("9999", "x") is None
    assert greylist.check("first", "x") is not None, "the oldest is forgotten"


async def test_policy_refuses_the_whole_message(handler, store, tmp_path):
    incoming = content(handler, b"Subject: Large\r\n\r\n" + b"x\r\n" * 200_000)
    reply = await handler.accept(peer(), transaction("b@example.test", "reject-policy@example.test"), incoming)
    assert (reply.code, reply.enhanced) == (550, "5.7.1")
    assert list((tmp_path / "sandbox").iterdir()) == []


async def test_slow_answers_later_and_blocks_nobody(store):
    handler = SandboxHandler(store, slow_seconds=0.1)
    slow = handler.accept(peer(), transaction("slow@example.test"), content(handler))
    quick = await handler.accept(peer(), transaction("b@example.test"), content(handler))
    assert quick.code == 250
    assert not slow.done()
    assert (await slow).code == 250
    assert len(list(store.envelopes())) == 2


async def test_slow_survives_a_client_that_left(handler):
    slow = handler.accept(peer(), transaction("slow@example.test"), content(handler))
    slow.cancel()
    await asyncio.sleep(0.05)  # past the moment of the answer, which must not raise
    assert slow.cancelled()


async def test_no_room_is_temporary(store, tmp_path):
    handler = SandboxHandler(store)
    incoming = content(handler)
    (tmp_path / "sandbox").rmdir()
    reply = await handler.accept(peer(), transaction("b@example.test"), incoming)
    assert (reply.code, reply.enhanced) == (452, "4.3.1")


@pytest.mark.parametrize("name", sorted(MEANINGS))
def test_magic_names(name):
    assert magic(f"{name}@x.test") == name
    assert magic(f"{name.title()}+1@x.test") == name
    assert magic(f"x{name}@x.test") is None


@pytest.mark.parametrize("address", ["user@example.test", "bounces@example.test", "a@bounce", "postmaster"])
def test_ordinary_addresses(address):
    assert magic(address) is None


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"", ""),
        (b"\r\n", ""),
        (b"From: a\r\n\r\n", ""),
        (b"Subject: one\r\n\r\n", "one"),
        (b"From: a\r\nSUBJECT:two\r\nTo: b\r\n\r\n", "two"),
        (b"Subject: a\r\n b\r\n\tc\r\nTo: Subject: d\r\n\r\n", "a b\tc"),
        (b"X-Subject: no\r\nSubject:\r\n\r\n", ""),
        (b"Subject: \xff\r\n\r\n", "�"),
        (b"Subject: cut", "cut"),
    ],
)
def test_subject(header, subject):
    assert subject_of(header) == subject


@pytest.mark.parametrize(
    ("header", "queue_id"),
    [
        (b"Received: from c ([::1])\r\n\tby r.test with ESMTP\r\n\tid 01k8glt9ereo6rf2b6ht5ieu94;\r\n\tdate\r\n", True),
        (
            b"DKIM-Signature: v=1\r\nReceived: by r.test\r\n\tid 01k8glt9ereo6rf2b6ht5ieu94\r\n\tfor <a@b>; date\r\n",
            True,
        ),
        (b"From: a\r\nMessage-ID: <01k8glt9ereo6rf2b6ht5ieu94@r.test>\r\n\r\n", True),
        (b"Received: by x id short;\r\nMessage-ID: <01k8glt9ereo6rf2b6ht5ieu94@r.test>\r\n\r\n", False),
        (b"Received: by x id zzzzzzzzzzzzzzzzzzzzzzzzzz; d\r\n\r\n", False),
        (b"From: a\r\n\r\n", False),
        (b"", False),
    ],
)
def test_queue_id(header, queue_id):
    assert queue_id_of(header) == ("01k8glt9ereo6rf2b6ht5ieu94" if queue_id else "")
