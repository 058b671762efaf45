"""The data of a queue in memory and the operations that change it. Large bodies are real files."""

import itertools
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import fields, replace

from relay_queue.bodies import Bodies, SpoolFile
from relay_queue.decide import is_by_admin, settle
from relay_queue.model import Body, Ended, Mark, Message, Owner, Put, Recipient, Suspension
from relay_queue.protocol import Action, BodyDamagedError, QueueError
from relay_queue.states import FINAL, State

_KEPT = {field.name for field in fields(Message)} & {field.name for field in fields(Ended)}
"""Fields that the history copies from the message."""


class Store:
    """The data of one queue in memory, shared by its interfaces."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._bodies: Bodies | None = None
        self.messages: dict[str, Message] = {}
        self.recipients: dict[str, dict[int, Recipient]] = {}
        self.pending: dict[tuple[str, int], Action] = {}
        self.heads: dict[str, tuple[Body, int]] = {}
        self.arriving: dict[str, SpoolFile] = {}
        self.ended: list[Ended] = []
        self.suspensions: dict[int, Suspension] = {}
        self.leases: dict[int, Owner] = {}
        self.numbers = itertools.count(1)

    @property
    def bodies(self) -> Bodies:
        """The folder of large bodies, created when it is first needed."""
        if self._bodies is None:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="relay-queue-"))
            self._bodies = Bodies(self._folder)
        return self._bodies

    def put(self, put: Put) -> None:
        """Store a message. Raises `QueueError` if its id is already stored or its body file is not known."""
        message, body = put.entry.message, put.body
        if message.id in self.messages:
            raise QueueError(f"{message.id} is stored already")
        if body.file is not None:
            file = self.arriving.pop(body.file, None)
            if file is None or file.size != body.file_size:
                raise QueueError(f"{body.file} is no file of {body.file_size} bytes that just arrived")
            self.bodies.keep(file)
            body = replace(body, file_crc=file.crc)
        self.messages[message.id] = replace(message)
        self.recipients[message.id] = {recipient.n: replace(recipient) for recipient in put.entry.recipients}
        self.heads[message.id] = (body, zlib.crc32(body.head))

    def live(self) -> Iterator[Recipient]:
        """Every live recipient, oldest message first."""
        for message_id in sorted(self.recipients):
            yield from (self.recipients[message_id][n] for n in sorted(self.recipients[message_id]))

    def mark(self, mark: Mark) -> bool:
        """Record an outcome; False if it is refused."""
        recipient = self.recipients.get(mark.message_id, {}).get(mark.n)
        if recipient is None:
            return False
        pending = self.pending.get((mark.message_id, mark.n))
        state = settle(recipient.state, recipient.owner, pending, mark)
        if state is None:
            return False
        recipient.attempts = mark.attempts
        recipient.lane = mark.lane or recipient.lane
        recipient.remote = mark.remote or recipient.remote
        if state is State.DELIVERED:
            recipient.reply, recipient.failure = mark.reply, None
        else:
            recipient.reply, recipient.failure = mark.reply or recipient.reply, mark.failure or recipient.failure
        recipient.delay_notified |= mark.delay_notified
        if state in FINAL and not is_by_admin(state, mark.reply):
            recipient.reason = None
        self.move(recipient, state, mark.at, due_at=mark.due_at, remote=mark.remote)
        return True

    def move(self, recipient: Recipient, state: State, at: float, *, due_at: float, remote: str | None = None) -> None:
        """Put a recipient into a state; one that has ended moves to the history."""
        self.pending.pop((recipient.message_id, recipient.n), None)
        recipient.state, recipient.owner, recipient.changed_at = state, None, at
        if state is State.QUEUED:
            recipient.due_at = due_at
        if state in FINAL:
            self._end(recipient, remote)

    def _end(self, recipient: Recipient, remote: str | None) -> None:
        message = self.messages[recipient.message_id]
        kept = {name: getattr(message, name) for name in _KEPT}
        self.ended.append(
            Ended(
                message_id=message.id,
                n=recipient.n,
                address=recipient.address,
                domain=recipient.domain,
                ended_at=recipient.changed_at,
                state=recipient.state,
                attempts=recipient.attempts,
                reply=recipient.reply,
                failure=recipient.failure,
                lane=recipient.lane,
                remote=remote,
                reason=recipient.reason,
                **kept,
            )
        )
        live = self.recipients[message.id]
        del live[recipient.n]
        if not live:
            body, _ = self.heads.pop(message.id)
            del self.recipients[message.id], self.messages[message.id]
            if body.file is not None:
                self.bodies.remove(body.file)

    def head(self, message_id: str) -> Body:
        """The stored body. Raises `BodyDamagedError`."""
        body, crc = self.heads.get(message_id, (None, 0))
        if body is None:
            raise BodyDamagedError(f"{message_id} has no body")
        if zlib.crc32(body.head) != crc:
            raise BodyDamagedError(f"the body of {message_id} is not what was stored")
        return body
