"""An event log with its clock and files, and events for it."""

import json

from relay.events.log import EventLog
from relay.events.read import read
from relay.model.peer import Identity, Peer, TlsFailure
from relay.smtp.reply import Reply
from relay_config.schema import Log, Settings
from relay_queue.model import Entry, Mark, Message, Recipient
from relay_queue.states import State

ID = "0abcdefghijklmnopqrstuvwxy"


class Clock:
    def __init__(self, now=1_700_000_000.25):
        self.now = now

    def __call__(self):
        return self.now


class Case:
    """An event log with its clock and files."""

    def __init__(self, folder, **log):
        self.folder = folder
        self.clock = Clock()
        self.path = folder / "relay.log"
        self.settings = self.with_log(**log)
        self.log = EventLog(self.settings, "3", clock=self.clock)

    def with_log(self, **log):
        log.setdefault("destination", str(self.path))
        return Settings(hostname="relay.test", data_dir=str(self.folder / "data"), log=Log(**log))

    def lines(self):
        self.log.flush()
        self.log.close()
        return self.path.read_text().splitlines() if self.path.exists() else []

    def stored(self):
        self.log.flush()
        self.log.close()
        files = sorted((self.folder / "data" / "events").iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def stored_in_order(self):
        """All of the store, as it is read back."""
        return list(read(self.folder / "data"))


MESSAGE = Message(id=ID, received_at=1_699_999_990.0, sender="a@example.com", size=4096, user="app")
RECIPIENTS = [Recipient(message_id=ID, n=n, address=f"r{n}@example.org", domain="example.org") for n in range(25)]
PEER = Peer(
    "192.0.2.1", 4711, "0.0.0.0:587", helo="c.test", tls="TLSv1.3 X", identity=Identity("app", ("example.com",))
)


def mark(state, **more):
    more.setdefault("attempts", 1)
    return Mark(message_id=ID, n=0, owner=0, state=state, at=1_700_000_000.0, **more)


def everything(log):
    """One of each event."""
    log.accepted(Entry(MESSAGE, RECIPIENTS), PEER)
    log.accepted(Entry(MESSAGE, RECIPIENTS[:1]), None)
    log.refused(PEER, "RCPT TO:<x@y>", Reply(550, "5.7.1", "no\nrelaying"))
    log.authenticated(PEER, "app", success=True)
    log.authenticated(PEER, "app", success=False)
    log.tls_failed(PEER, TlsFailure("no", ("TLSv1.1",), ("AES128-SHA",), "mx.test"))
    for state in State:
        if state is not State.ACTIVE:
            log.outcome(MESSAGE, RECIPIENTS[0], mark(state, due_at=1_700_000_300.0, reply="text"))
    log.notified("failure", MESSAGE, "dsnid")
    log.lane("mx.example.org", "paused", "refused", 1_700_000_030.25)
    log.lane("mx.example.org", "resumed", "")
    log.steered("hold", 3, "root")
    log.process("started", pid=7, hostname="relay.test")
    log.problem("here", ValueError("boom"))
