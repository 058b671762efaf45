"""The settings in force and the objects built from them, shared by the supervisor and its workers.

The supervisor keeps its own copy up to date, so that a worker started after a reload has the same state as the others.
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
    """New settings that were read, checked and loaded but are not in force yet."""

    wanted: Settings
    """The settings as in the settings file."""
    settings: Settings
    """The settings that come into force: those that need a restart keep their old values."""
    loaded: Loaded


@dataclass(slots=True)
class Setup:
    """Settings in force, certificate and keys, and the counters over all workers."""

    settings: Settings
    materials: Materials
    shared: Shared
    clients: SharedClients
    workers: int
    load: Callable[[], Settings]
    """Reads and checks the settings file again. Raises `SettingsError` if it is invalid."""
    bring_forward: set[int] = field(default_factory=set)
    """Workers that must bring mail forward when they start, because the clock may have been set back."""
    started: Settings = field(init=False)
    """The settings at the start, from which listeners and workers were created."""

    def __post_init__(self) -> None:
        self.started = self.settings

    def prepare(self) -> Update:
        """Read, check and load the settings. Raises `SettingsError` or `MaterialError`.

        Changes no state here, so it may run in a thread.
        """
        wanted = self.load()
        return Update(wanted, in_force(self.started, wanted), self.materials.prepare(wanted))

    def commit(self, update: Update) -> None:
        """Put new settings, certificate and keys in force."""
        self.materials.commit(update.loaded)
        self.settings = update.settings
