"""Finds the events of a Message-ID: only `accepted` contains it, all other events contain the queue id.

Several messages may have the same Message-ID, and one may be accepted while events are being followed, so the queue ids
are learned as events go by. Pure.
"""

from typing import Any, Final

import msgspec

from relay_queue.matching import header_ids

_encode: Final = msgspec.json.Encoder().encode


class Trail:
    """The messages with one Message-ID, given with or without its angle brackets."""

    __slots__ = ("_forms", "_ids", "_needles")

    def __init__(self, message_id: str) -> None:
        self._forms = frozenset(header_ids(message_id))
        self._ids: set[str] = set()
        """Queue ids."""
        bare = min(self._forms, key=len)
        self._needles = [_encode(bare)[1:-1]]

    def names(self, line: bytes) -> bool:
        """Whether a stored line may contain the Message-ID."""
        return self._needles[0] in line

    def may_hold(self, line: bytes) -> bool:
        """Whether a stored line may belong, so that it must be decoded. Cheap, and true for every line that belongs."""
        return any(needle in line for needle in self._needles)

    def covers(self, event: dict[str, Any]) -> bool:
        """Whether an event belongs to the Message-ID; also learns new queue ids from it."""
        queue_id = event.get("id")
        if event.get("message_id") in self._forms and isinstance(queue_id, str) and queue_id not in self._ids:
            self._ids.add(queue_id)
            self._needles.append(queue_id.encode())
        return queue_id in self._ids or event.get("dsn") in self._ids
