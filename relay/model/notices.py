"""Notices that the relay's processes send each other. A notice is only a hint; the queue is authoritative.

`relay.process.wake` carries them as datagrams.
"""

from typing import TypeAlias

import msgspec

from relay_queue.model import Destination


class Due(msgspec.Struct, frozen=True, tag="due"):
    """Recipients of a destination are due."""

    destination: Destination | None = None
    """None: any destination."""


class PendingActions(msgspec.Struct, frozen=True, tag="pending"):
    """An admin requested an action on recipients that workers have claimed."""


class SuspensionsChanged(msgspec.Struct, frozen=True, tag="suspensions"):
    """Suspensions were added or removed."""


class Everything(msgspec.Struct, frozen=True, tag="everything"):
    """Check everything. Replaces all other notices when some of them were lost."""


Notice: TypeAlias = Due | PendingActions | SuspensionsChanged | Everything
