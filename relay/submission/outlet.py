"""The interfaces that submission needs from others: delivery of accepted mail, and verification of passwords."""

from typing import Protocol

from relay.model.peer import Identity
from relay_queue.model import Put


class Outlet(Protocol):
    """Delivery's part in accepting a message. Both calls are fast and do not raise when delivery is at capacity."""

    def admit(self, put: Put) -> None:
        """Called before the put: marks recipients that delivery can take directly from memory as ACTIVE, with owner."""
        ...

    def offer(self, put: Put) -> None:
        """Called after each commit: claimed recipients go to their lanes, the others are noted as due."""
        ...


class Verifier(Protocol):
    """Checks passwords (`relay.submission.authenticator`)."""

    def recognise(self, user: str, password: str) -> Identity | None:
        """The identity, if the password is the user's generated secret; None means unknown, not wrong. Fast."""
        ...

    def current(self, identity: Identity) -> Identity | None:
        """The current identity; None if its login is no longer valid. Fast, because it is called at each MAIL."""
        ...

    async def verify(self, user: str, password: str) -> Identity | None:
        """The identity, or None. A wrong password and an unknown user give the same result in the same time."""
        ...
