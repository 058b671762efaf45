"""What a server runs with: the settings in force and what was made of them, shared by the supervisor and its workers.

The supervisor keeps its own copy up to date, so that a worker started after a reload starts with what the others have.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from relay.process.clients import SharedClients
from relay.process.materials import Materials
from relay.submission.handler import Shared
from relay_config.schema import Settings


@dataclass(slots=True)
class Setup:
    """Settings in force, certificate and keys, counters over all workers."""

    settings: Settings
    materials: Materials
    shared: Shared
    clients: SharedClients
    workers: int
    load: Callable[[], Settings]
    """Reads and checks the settings file anew; `SettingsError` when it is bad."""
    hasten: set[int] = field(default_factory=set)
    """Workers that begin with a look for mail that waits for a time by a clock that was set back since."""

    def reload(self) -> None:
        """Take new settings, certificate and keys; `SettingsError` or `MaterialError` leaves all as it was."""
        settings = self.load()
        self.materials.reload(settings)
        self.settings = settings
