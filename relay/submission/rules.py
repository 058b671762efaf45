"""What the settings and keys say about submission, worked out once and replaced as a whole on reload."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.message.dkim.sign import KeyRing
from relay.message.fix import Facts
from relay.submission.disk import DiskSpace
from relay.submission.networks import Networks
from relay_config.schema import Limits, Settings
from relay_config.streams import Streams
from relay_queue.ids import new_id


@dataclass(slots=True, frozen=True)
class Rules:
    """Rules for every message and session of one worker."""

    hostname: str
    limits: Limits
    networks: Networks
    auth: dict[str, str]
    """`auth` of each listener by its address."""
    keys: KeyRing
    streams: Streams
    disk: DiskSpace
    default_domain: str | None
    repair_long_lines: bool

    @classmethod
    def of(cls, settings: Settings, keys: KeyRing, clock: Callable[[], float]) -> "Rules":
        """`clock` gives Unix time in seconds."""
        return cls(
            settings.hostname,
            settings.limits,
            Networks(settings.submission.trusted_networks),
            {listener.address: listener.auth for listener in settings.listener},
            keys,
            Streams(settings),
            DiskSpace(settings, clock),
            settings.submission.default_domain,
            settings.submission.long_lines == "repair",
        )

    def facts(self, now: float) -> Facts:
        """What header repairs need to know, with a new queue id; `now` is Unix time in seconds."""
        return Facts(
            id=new_id(now),
            hostname=self.hostname,
            now=now,
            fields=self.limits.header_fields,
            received_fields=self.limits.received_fields,
            default_domain=self.default_domain,
        )
