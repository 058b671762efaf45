"""A transaction on its connection: what it sends, and who waits for its end."""

import asyncio

from relay.smtp.client.envelope import Envelope
from relay.smtp.client.model import Outgoing, SessionError, Stage
from relay.smtp.client.transaction import Transaction
from relay.smtp.reply import Reply


class Exchange:
    """`waiter` is done when the transaction is, or when its large message is to be streamed."""

    __slots__ = ("follows", "outgoing", "transaction", "waiter")

    def __init__(
        self, outgoing: Outgoing, envelope: Envelope, *, pipelining: bool, reset: bool = False, follows: bool = False
    ) -> None:
        self.outgoing = outgoing
        self.transaction = Transaction(envelope, pipelining=pipelining, reset=reset)
        self.follows = follows
        """Its commands were written before the reply to the message ahead of it was read."""
        self.waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """It has ended."""
        if not self.waiter.done():
            self.waiter.set_result(None)

    def wake_to_stream(self) -> None:
        """It wants its message streamed; its end is awaited anew."""
        waiter, self.waiter = self.waiter, asyncio.get_running_loop().create_future()
        waiter.set_result(None)

    def fail(self, error: SessionError) -> None:
        """It ends with an error."""
        if not self.waiter.done():
            self.waiter.set_exception(error)
            self.waiter.exception()  # seen: who waits for it may be on the way out with an error of its own

    def error(self, kind: str, text: str, reply: Reply | None, remote: str, *, reused: bool) -> SessionError:
        """What broke it. `reused`: the connection had carried others before."""
        transaction = self.transaction
        # Where replies and commands may have slipped against each other, no single reply can be trusted.
        partial = transaction.known() if kind != "protocol" else list[Reply | None]([None] * len(transaction.replies))
        first = transaction.stage is Stage.MAIL and not (kind == "closed" and transaction.answered)
        fresh = reused and first and kind in ("closed", "reply")
        return SessionError(transaction.stage, kind, text, reply, remote, partial, fresh_connection_helps=fresh)


def never_answered(remote: str) -> SessionError:
    """The connection ended before a transaction on it had a reply, and nothing of its message was sent."""
    return SessionError(Stage.MAIL, "closed", "connection was closed", remote=remote, fresh_connection_helps=True)
