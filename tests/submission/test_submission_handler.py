import asyncio
import re

import pytest

from relay.message.dkim.sign import KeyRing
from relay.smtp.reply import Reply
from relay.smtp.server.handler import Identity, Peer, RecipientPath, Transaction
from relay.submission.handler import SubmissionHandler
from relay_config.schema import Limits, Listener, Settings, Submission
from relay_config.words import Size
from relay_queue.ids import is_id
from relay_queue.memory import MemoryQueue, Store
from relay_queue.protocol import QueueError, QueueFailedError, QueueFullError
from relay_queue.states import State
from tests.support.dkim_keys import key, results
from tests.support.remembering_recorder import RememberingRecorder

NOW = 1_767_323_045.0
ALICE = Identity("alice", ("alice@example.org", "shop.example"))
HEAD = b"From: Alice <alice@example.org>\r\nTo: bob@example.net\r\nSubject: x\r\n"
BODY = b"Hello\r\n"


class Outlet:
    """Takes everything in hand, as delivery does with an idle lane."""

    def __init__(self):
        self.offered = []
        self.admitted = []

    def admit(self, put):
        self.admitted.append(put)
        for recipient in put.entry.recipients:
            recipient.state, recipient.owner = State.ACTIVE, 0

    def offer(self, put):
        self.offered.append(put)


class Passwords:
    """One user whose password is `right`."""

    def __init__(self):
        self.asked = 0

    async def verify(self, user, password):
        self.asked += 1
        await asyncio.sleep(0)
        return ALICE if (user, password) == ("alice", "right") else None


class FailingQueue(MemoryQueue):
    """Refuses every put with the given error."""

    error = None
    sync = False

    def put(self, put):
        if self.error is None:
            return super().put(put)
        if self.sync:
            raise self.error
        future = asyncio.get_running_loop().create_future()
        future.set_exception(self.error)
        return future

    def failed(self):
        return "broken" if isinstance(self.error, QueueFailedError) else None


class World:
    """A handler with all its neighbours."""

    def __init__(self, folder, *, keys=(), **limits):
        self.now = NOW
        self.set_back = 0.0
        self.folder = folder
        self.store = Store(folder)
        self.queue = FailingQueue(self.store)
        self.outlet = Outlet()
        self.recorder = RememberingRecorder()
        self.passwords = Passwords()
        self.handler = SubmissionHandler(
            self.settings(**limits),
            self.queue,
            self.outlet,
            self.recorder,
            keys=KeyRing({one.domain: [two for two in keys if two.domain == one.domain] for one in keys}),
            verifier=self.passwords,
            clock=lambda: self.now - self.set_back,
            steady=lambda: self.now,
        )

    def settings(self, networks=("127.0.0.0/8",), **limits):
        limits.setdefault("free_disk", Size(1))
        return Settings(
            hostname="mail.example.com",
            data_dir=str(self.folder),
            listener=(
                Listener(address="0.0.0.0:587"),
                Listener(address="127.0.0.1:25", auth="optional"),
                Listener(address="127.0.0.1:2525", auth="off", tls="none"),
            ),
            limits=Limits(**limits),
            submission=Submission(trusted_networks=networks),
        )

    def peer(self, address="192.0.2.7", listener="0.0.0.0:587", identity=None):
        peer = Peer(address, 40_000, listener, helo="client.test", extended=True, tls="TLSv1.3 X", identity=identity)
        assert self.handler.connected(peer) is None
        return peer

    def alice(self):
        return self.peer(identity=ALICE)

    def send(self, peer, content, *recipients, sender="alice@example.org", **fields):
        """One transaction; the refusal, or the future of the verdict."""
        transaction = Transaction(sender, sender.rpartition("@")[2], **fields)
        reply = self.handler.mail(peer, transaction)
        if reply is not None:
            return reply
        for address in recipients or ("bob@example.net",):
            path = RecipientPath(address, address.rpartition("@")[2].lower())
            reply = self.handler.rcpt(peer, transaction, path)
            if reply is not None:
                return reply
            transaction.recipients.append(path)
        incoming = self.handler.incoming(peer, transaction)
        if isinstance(incoming, Reply):
            return incoming
        for start in range(0, len(content), 100_000):
            incoming.write(content[start : start + 100_000])
        incoming.close()
        return self.handler.accept(peer, transaction, incoming)

    def octets(self, put):
        body = put.body
        if body.file is None:
            return body.head
        with self.queue.open_file(body) as file:
            return body.head + file.read()


@pytest.fixture
async def world(tmp_path):
    one = World(tmp_path)
    yield one
    one.handler.close()
    await one.queue.aclose()


def refusal(reply):
    assert isinstance(reply, Reply), "accepted"
    return f"{reply.code} {reply.enhanced}"


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
    world = World(tmp_path, keys=[one])
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
    world = World(tmp_path, keys=[one])
    await world.send(world.alice(), b"From: x@shop.example\r\n\r\n")
    assert results(world.outlet.offered[0].body.head, one) == [True]


async def test_not_signed_for_others(tmp_path):
    world = World(tmp_path, keys=[key("other.test")])
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


# -- access ----------------------------------------------------------------------------------------------------------

RELAY_FORMS = [
    "victim@ext.test",
    "victim%ext.test@local.test",
    "ext.test!victim@local.test",
    "ext.test!victim",
    "@local.test:victim@ext.test",
    "@local.test,@local.test:victim@ext.test",
    '"victim@ext.test"@local.test',
    '"victim@ext.test"',
    "victim@ext.test@local.test",
    "victim@local.test@ext.test",
    "victim@ext.test.",
    "victim@[127.0.0.1]",
    "victim@127.0.0.1",
    "victim@[IPv6:::1]",
    "victim@[IPv6:::ffff:127.0.0.1]",
    "victim@localhost",
    "victim@EXT.TEST",
    "vic tim@ext.test",
    "victim\0@ext.test",
    "victim@ext.test,local.test",
    "victim@ext.test;local.test",
    "victim@ext.test(@local.test)",
    "victim\\@ext.test",
    "victim@sub.ext.test",
    "victim@xlocal.test",
    "victim@.local.test",
    "victim@l\u043ecal.test",
    "victim@[local.test]",
    "postmaster@mail.example.com",
]


@pytest.mark.parametrize(
    ("listener", "code"), [("127.0.0.1:25", "550 5.7.1"), ("127.0.0.1:2525", "550 5.7.1"), ("0.0.0.0:587", "530 5.7.0")]
)
def test_no_form_of_address_lets_an_outsider_relay(tmp_path, listener, code):
    assert len(RELAY_FORMS) == 29

    async def run():
        world = World(tmp_path)
        peer = world.peer("192.0.2.66", listener)
        transaction = Transaction("s@ext.test", "ext.test")
        for form in RELAY_FORMS:
            path = RecipientPath(form, form.rpartition("@")[2].lower())
            assert refusal(world.handler.rcpt(peer, transaction, path)) == code
            # Even if a session forgot to ask, nothing is accepted.
            forgotten = Transaction("s@ext.test", "ext.test", recipients=[path])
            incoming = world.handler.incoming(peer, forgotten)
            incoming.write(HEAD + b"\r\n")
            assert refusal(await world.handler.accept(peer, forgotten, incoming)) == "550 5.7.1"
        assert not world.outlet.offered
        assert not world.store.messages

    asyncio.run(run())


async def test_mail_needs_a_login_on_submission(world):
    peer = world.peer()
    assert refusal(world.send(peer, HEAD)) == "530 5.7.0"
    trusted = world.peer("127.0.0.1")
    assert trusted.trusted
    assert refusal(world.send(trusted, HEAD)) == "530 5.7.0"


@pytest.mark.parametrize("listener", ["127.0.0.1:25", "127.0.0.1:2525"])
async def test_trusted_networks_relay_where_auth_is_not_required(world, listener):
    peer = world.peer("127.0.0.9", listener)
    assert (await world.send(peer, b"From: any@body.test\r\n\r\n", sender="any@body.test")).code == 250
    assert world.outlet.offered[0].entry.message.user is None
    assert b"with ESMTPS (" in world.outlet.offered[0].body.head


async def test_an_unknown_listener_is_strict(world):
    assert refusal(world.send(world.peer("127.0.0.1", "127.0.0.1:9"), HEAD)) == "530 5.7.0"


async def test_envelope_senders_of_a_user(world):
    peer = world.alice()
    assert refusal(world.send(peer, HEAD, sender="mallory@example.org")) == "553 5.7.1"
    assert refusal(world.send(peer, HEAD, sender="alice@evil.test")) == "553 5.7.1"
    assert (await world.send(peer, HEAD, sender="bounces@shop.example")).code == 250
    assert (await world.send(peer, HEAD, sender="")).code == 250
    assert world.outlet.offered[-1].entry.message.sender == ""


@pytest.mark.parametrize(
    "field",
    [
        b"From: mallory@example.org\r\n",
        b"From: alice@example.org, mallory@example.org\r\nSender: alice@example.org\r\n",
        b'From: "alice@example.org" <mallory@evil.test>\r\n',
        b"From: alice@example.org.evil.test\r\n",
    ],
)
async def test_from_of_a_user(world, field):
    assert refusal(await world.send(world.alice(), field + b"\r\n")) == "550 5.7.1"
    assert not world.store.messages


async def test_a_refused_header_lets_go_of_its_file(world, tmp_path):
    reply = await world.send(world.alice(), b"To: x\r\n\r\n" + b"line\r\n" * 100_000)
    assert refusal(reply) == "554 5.6.0"
    assert not [path for path in (tmp_path / "bodies").rglob("*") if path.is_file()]


async def test_loops_and_wide_headers(world):
    peer = world.alice()
    assert refusal(await world.send(peer, b"Received: x\r\n" * 51 + HEAD)) == "554 5.4.6"
    assert (await world.send(peer, b"Received: x\r\n" * 25 + HEAD)).code == 250
    assert refusal(await world.send(peer, b"X: y\r\n" * 20_000 + HEAD)) == "554 5.6.0"


# -- limits ----------------------------------------------------------------------------------------------------------


async def test_messages_per_hour(tmp_path):
    world = World(tmp_path, messages_per_hour=2)
    peer = world.alice()
    for _ in range(2):
        assert (await world.send(peer, HEAD)).code == 250
    reply = world.send(peer, HEAD)
    assert refusal(reply) == "451 4.7.1"
    assert re.search(r"2 messages an hour; try again in \d+ minutes$", reply.text)
    world.now += 3601
    assert (await world.send(peer, HEAD)).code == 250


async def test_messages_sent_at_once_do_not_pass_the_limit(tmp_path):
    world = World(tmp_path, messages_per_hour=3)
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
    world = World(tmp_path, recipients_per_hour=3)
    peer = world.alice()
    assert refusal(world.send(peer, HEAD, *[f"r{n}@x.test" for n in range(4)])) == "450 4.7.1"
    assert (await world.send(peer, HEAD, "a@x.test", "b@x.test")).code == 250
    assert refusal(world.send(peer, HEAD, "a@x.test", "b@x.test")) == "450 4.7.1"
    assert (await world.send(peer, HEAD, "a@x.test")).code == 250


@pytest.mark.parametrize("sync", [False, True])
async def test_what_could_not_be_stored_does_not_count(tmp_path, sync):
    world = World(tmp_path, messages_per_hour=1, recipients_per_hour=1)
    peer = world.alice()
    world.queue.error, world.queue.sync = QueueFullError("no room"), sync
    for _ in range(3):
        assert refusal(await world.send(peer, HEAD)) == "452 4.3.1"
        await asyncio.sleep(0)
    world.queue.error = None
    assert (await world.send(peer, HEAD)).code == 250
    assert refusal(world.send(peer, HEAD)) == "451 4.7.1"


async def test_trusted_networks_have_no_such_limit(tmp_path):
    world = World(tmp_path, messages_per_hour=1, recipients_per_hour=1)
    for _ in range(3):
        assert (await world.send(world.peer("127.0.0.1", "127.0.0.1:25"), HEAD, "a@x.test", "b@x.test")).code == 250


async def test_a_full_disk(tmp_path):
    world = World(tmp_path, free_disk=Size(1 << 60))
    assert refusal(world.send(world.alice(), HEAD)) == "452 4.3.1"
    assert refusal(world.handler.incoming(world.alice(), Transaction("", ""))) == "452 4.3.1"


async def test_a_disk_that_cannot_be_examined(tmp_path):
    world = World(tmp_path / "missing")
    assert refusal(world.send(world.alice(), HEAD)) == "451 4.3.0"
    assert world.recorder.named("problem")[0][0] == "disk"


# -- logins ----------------------------------------------------------------------------------------------------------


async def test_logins(world):
    peer = world.peer()
    assert refusal(await world.handler.authenticate(peer, "alice", "wrong")) == "535 5.7.8"
    assert refusal(await world.handler.authenticate(peer, "nobody", "right")) == "535 5.7.8"
    assert await world.handler.authenticate(peer, "alice", "right") == ALICE
    assert [(kind, fields) for kind, _, fields in world.recorder.events if kind == "authenticated"] == [
        ("authenticated", {"success": False}),
        ("authenticated", {"success": False}),
        ("authenticated", {"success": True}),
    ]


async def test_guessing_is_slowed_down_by_client(tmp_path):
    world = World(tmp_path, auth_failures_per_minute=3)
    peer = world.peer()
    for number in range(3):
        await world.handler.authenticate(peer, f"user{number}", "wrong")
    reply = await world.handler.authenticate(peer, "alice", "right")
    assert refusal(reply) == "454 4.7.0"
    assert "60 seconds" in reply.text
    assert world.passwords.asked == 3
    assert await world.handler.authenticate(world.peer("198.51.100.1"), "alice", "right") == ALICE
    world.now += 61
    assert await world.handler.authenticate(peer, "alice", "right") == ALICE


async def test_a_clock_set_back_neither_blocks_a_user_nor_forgives_a_guesser(tmp_path):
    world = World(tmp_path, messages_per_hour=2, auth_failures_per_minute=2)
    peer = world.alice()
    assert [(await world.send(peer, HEAD)).code for _ in range(2)] == [250, 250]
    await world.handler.authenticate(world.peer(), "alice", "wrong")
    world.set_back = 86_400.0
    await world.handler.authenticate(world.peer(), "alice", "wrong")
    assert refusal(await world.handler.authenticate(world.peer(), "alice", "right")) == "454 4.7.0"
    world.now += 3601
    assert (await world.send(peer, HEAD)).code == 250


async def test_many_right_logins_are_no_guessing(tmp_path):
    world = World(tmp_path, auth_failures_per_minute=3)
    peer = world.peer()
    replies = await asyncio.gather(*[world.handler.authenticate(peer, "alice", "right") for _ in range(50)])
    assert replies == [ALICE] * 50


async def test_the_users_of_the_data_folder_by_default(tmp_path):
    world = World(tmp_path)
    handler = SubmissionHandler(world.settings(), world.queue, world.outlet, world.recorder, keys=KeyRing({}))
    assert refusal(await handler.authenticate(world.peer(), "alice", "right")) == "535 5.7.8"
    handler.close()


# -- faults ----------------------------------------------------------------------------------------------------------


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


# -- reload ----------------------------------------------------------------------------------------------------------


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
