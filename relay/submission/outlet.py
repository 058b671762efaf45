"""What submission asks of its neighbours: delivery, which takes accepted mail on, and the users' passwords."""

from typing import Protocol

from relay.model.peer import Identity
from relay_queue.model import Put


class Outlet(Protocol):
    """Delivery's side of an acceptance. Both calls are quick and never raise on a full house."""

    def admit(self, put: Put) -> None:
        """Before the put: recipients that delivery can take straight from memory are made ACTIVE with their owner."""
        ...

    def offer(self, put: Put) -> None:
        """After the commit, for every message: those in hand go to their lanes, the others are known to be due."""
        ...


class Verifier(Protocol):
    """Checks passwords (`relay.submission.authenticator`)."""

    def recognise(self, user: str, password: str) -> Identity | None:
        """Who this is, if the password is a right generated one; None says nothing. Quick."""
        ...

    def current(self, identity: Identity) -> Identity | None:
        """The identity as of now; None if its login does not hold any more. Quick: asked at each MAIL."""
        ...

    async def verify(self, user: str, password: str) -> Identity | None:
        """Who this is, or None: wrong and unknown look the same, also in time."""
        ...
