"""Streams, the named classes of mail: which streams exist, and the settings of each. Pure."""

from typing import Final

import msgspec
from msgspec.structs import replace

from relay_config.schema import Retry, Settings, Stream

BUILT_IN: Final = ("transactional", "bulk")
"""Streams that exist without being defined in the settings."""
_PRIORITIES: Final = {"transactional": 10}
"""Priorities where the settings do not give one; all other streams have 0."""


class Share(msgspec.Struct, frozen=True):
    """How a stream shares a site's limits with the others."""

    priority: int = 0
    weight: int = 1


_UNKNOWN: Final = Share()
"""For mail of a stream that the settings no longer name: the lowest priority, and no expiry of its own."""


class Streams:
    """Priority, weight and expiry of each stream, computed once per settings and not once per message."""

    def __init__(self, settings: Settings) -> None:
        self._retry = settings.retry
        streams = dict.fromkeys(BUILT_IN, Stream()) | settings.stream
        self._shares = {name: _share(name, stream) for name, stream in streams.items()}
        self._retries = {
            name: replace(settings.retry, expire_after=stream.expire_after)
            for name, stream in streams.items()
            if stream.expire_after is not None
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The streams that a message may name, in alphabetical order."""
        return tuple(sorted(self._shares))

    def __contains__(self, name: str) -> bool:
        """Whether a message may name the stream."""
        return name in self._shares

    def __getitem__(self, name: str) -> Share:
        return self._shares.get(name, _UNKNOWN)

    def retry(self, name: str, received_at: float = 0.0, expires_at: float | None = None) -> Retry:
        """The retry schedule and expiry age for mail of the stream.

        `expires_at` is the message's own expiry time, if it has one (both times are seconds since the epoch).
        """
        retry = self._retries.get(name, self._retry)
        if expires_at is None:
            return retry
        return replace(retry, expire_after=max(0.0, expires_at - received_at))


def _share(name: str, stream: Stream) -> Share:
    return Share(_PRIORITIES.get(name, 0) if stream.priority is None else stream.priority, stream.weight)
