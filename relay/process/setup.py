"""What a server runs with: the settings in force and what was made of them, shared by the supervisor and its workers.

The supervisor keeps its own copy up to date, so that a worker started after a reload starts with what the others have.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from relay.process.clients import SharedClients
from relay.process.fixed import in_force
from relay.process.materials import Loaded, Materials
from relay.submission.handler import Shared
from relay_config.schema import Settings


@dataclass(slots=True, frozen=True)
class Update:
    """New settings that were read, checked and loaded, and are not in force yet."""

    wanted: Settings
    """As the settings file has them."""
    settings: Settings
    """As they come into force: what only a restart changes is as it was."""
    loaded: Loaded


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
    bring_forward: set[int] = field(default_factory=set)
    """Workers that begin with a look for mail that waits for a time by a clock that was set back since."""
    started: Settings = field(init=False)
    """The settings of the start, with which listeners and workers were made."""

    def __post_init__(self) -> None:
        self.started = self.settings

    def prepare(self) -> Update:
        """Read, check and load; `SettingsError` or `MaterialError` where something is wrong.

        Changes nothing here, so that it may run in a thread.
        """
        wanted = self.load()
        return Update(wanted, in_force(self.started, wanted), self.materials.prepare(wanted))

    def commit(self, update: Update) -> None:
        """Put new settings, certificate and keys in force."""
        self.materials.commit(update.loaded)
        self.settings = update.settings
