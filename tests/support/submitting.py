"""A submission handler with all its neighbours, each a small one that remembers."""

import asyncio

from relay.message.dkim.sign import KeyRing
from relay.model.peer import Identity, Peer
from relay.model.transaction import RecipientPath, Transaction
from relay.smtp.reply import Reply
from relay.smtp.server.content import Content
from relay.submission.handler import SubmissionHandler
from relay_config.schema import Limits, Listener, Settings, Submission
from relay_config.words import Size
from relay_queue.memory import MemoryQueue, Store
from relay_queue.protocol import QueueFailedError
from relay_queue.states import State
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

    def recognise(self, user, password):
        return None

    def current(self, identity):
        return identity

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


class Submitting:
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

    def settings(self, networks=("127.0.0.0/8",), submission=None, **limits):
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
            submission=Submission(trusted_networks=networks, **(submission or {})),
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
        octets = Content(incoming, 50 << 20, normalise=True)
        for start in range(0, len(content), 100_000):
            octets.write(content[start : start + 100_000])
        fault = octets.finish()
        if fault is not None:
            return fault.reply
        return self.handler.accept(peer, transaction, incoming)

    def octets(self, put):
        body = put.body
        if body.file is None:
            return body.head
        with self.queue.open_file(body) as file:
            return body.head + file.read()


def refusal(reply):
    assert isinstance(reply, Reply), "accepted"
    return f"{reply.code} {reply.enhanced}"
