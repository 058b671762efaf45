"""The interface through which the rest of the relay reports events: one method per event.

Callers pass records, never formatted text. The implementation (`relay.events.log`) writes one log line and one line
of the event store per event, batched, off the hot path.
"""

from typing import Protocol

from relay.model.peer import Peer, TlsFailure
from relay.smtp.reply import Reply
from relay_queue.model import Entry, Mark, Message, Recipient


class Recorder(Protocol):
    """All events of the relay. `docs/reference/events.md` lists them; a test compares the two."""

    def accepted(self, entry: Entry, peer: Peer | None) -> None:
        """A message is durable in the queue. `peer` is None if the relay or its shell created the message."""
        ...

    def refused(self, peer: Peer, command: str, reply: Reply) -> None:
        """A client's command was answered 4xx or 5xx."""
        ...

    def authenticated(self, peer: Peer, user: str, *, success: bool) -> None:
        """An AUTH attempt ended."""
        ...

    def tls_failed(self, peer: Peer, failure: TlsFailure) -> None:
        """A TLS handshake with a client failed."""
        ...

    def outcome(self, message: Message, recipient: Recipient, mark: Mark) -> None:
        """An attempt ended or an admin's action was applied: delivered, deferred, failed, expired, held, dropped."""
        ...

    def notified(self, kind: str, message: Message, dsn_id: str) -> None:
        """A DSN (`failure`, `delay`, `success`) about `message` was queued under `dsn_id`."""
        ...

    def lane(self, name: str, what: str, reason: str, until: float | None = None) -> None:
        """A lane was paused (back-off) or resumed."""
        ...

    def steered(self, action: str, count: int, who: str, *, filters: str = "", reason: str | None = None) -> None:
        """An admin acted on the queue, its suspensions or users; `filters` tells what was selected."""
        ...

    def process(self, what: str, **fields: str | float) -> None:
        """The relay started, stopped, reloaded or lost a worker."""
        ...

    def problem(self, where: str, error: BaseException) -> None:
        """An internal fault occurred; it is logged once, with its trace."""
        ...
