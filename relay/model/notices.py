"""What processes of the relay tell each other. A notice is a hint: the truth lies in the queue.

`relay.process.wake` carries them as datagrams.
"""

from typing import TypeAlias

import msgspec

from relay_queue.model import Destination


class Due(msgspec.Struct, frozen=True, tag="due"):
    """Recipients of a destination are due."""

    destination: Destination | None = None
    """None: of any destination."""


class PendingActions(msgspec.Struct, frozen=True, tag="pending"):
    """An admin wants something done to recipients that workers have claimed."""


class SuspensionsChanged(msgspec.Struct, frozen=True, tag="suspensions"):
    """Suspensions were added or removed."""


class Everything(msgspec.Struct, frozen=True, tag="everything"):
    """Look at everything; stands for all other notices, where some were lost."""


Notice: TypeAlias = Due | PendingActions | SuspensionsChanged | Everything
