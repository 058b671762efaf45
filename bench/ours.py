"""The relay as a real process: shipped defaults except addresses, the route to the sink and its lane's limits."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import tree
from bench.keys import Secrets
from bench.postfix import CONNECTIONS
from bench.processes import free_port, greets, run, running, until
from bench.words import BenchError
from relay_queue.model import Selection
from relay_queue.sqlite import open_admin


def use_source(tree_of_source: Path) -> None:
    """From now on run the relay of that checkout instead of the one the benchmarks are in."""
    roots = (tree_of_source, tree_of_source / "queue", tree_of_source / "config")
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, roots))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}


def the_route(sink_port: int) -> str:
    """Settings of a route that takes everything to the sink, and limits that suit a sink on loopback."""
    return f"""
[[route]]
domains = ["*"]
relay_host = "127.0.0.1:{sink_port}"

[throttle.site."127.0.0.1:{sink_port}"]
max_connections = {CONNECTIONS}
rate = "0"
connection_rate = "0"
"""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """What a benchmark needs of the relay besides defaults."""

    workers: int = 0
    secrets: Secrets | None = None
    """Key of DKIM, certificate and user, for the rows that need them."""
    dkim: bool = False
    secure: bool = False
    extra: str = ""
    """More settings, as TOML."""
    command: tuple[str, ...] = (sys.executable, "-m", "relay")


class Relay:
    """A folder with the settings of a relay; `serving` runs it."""

    name = "relay"

    def __init__(self, folder: Path, options: RelayOptions) -> None:
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.pid = 0
        folder.mkdir(exist_ok=True)
        self.data_dir.mkdir(mode=0o700)
        self.settings_file.write_text(self._settings())
        self.cli("check")
        if options.secure:
            assert options.secrets is not None
            self.cli("user", "add", options.secrets.user, "--sender", "*", "--password", given=options.secrets.password)

    @property
    def settings_file(self) -> Path:
        """Where its settings are."""
        return self.folder / "relay.toml"

    @property
    def data_dir(self) -> Path:
        """Where its queue is."""
        return self.folder / "data"

    def cli(self, *arguments: str, given: str = "") -> str:
        """Run `relay ARGUMENTS` and give what it printed."""
        command = [*self.options.command, "-c", str(self.settings_file), *arguments]
        return run(command, env=_environment(), cwd=self.folder, input=given)

    @contextlib.contextmanager
    def serving(self) -> Iterator["Relay"]:
        """Run `relay serve` until the block ends."""
        with self.starting():
            until(self._greets, 60, f"the relay greets (see {self.folder}/log)")
            yield self

    def _greets(self) -> bool:
        if not tree.descent(self.pid) or tree.descent(self.pid)[self.pid][0] == "Z":
            raise BenchError(f"the relay ended:\n{(self.folder / 'log').read_text()[-2000:]}")
        return greets(self.port)

    @contextlib.contextmanager
    def starting(self) -> Iterator["Relay"]:
        """As `serving`, without waiting for it to serve."""
        command = [*self.options.command, "-c", str(self.settings_file), "serve"]
        # `-m` would find the packages of the current folder before any others.
        with running(command, self.folder / "log", env=_environment(), cwd=self.folder) as process:
            self.pid = process.pid
            yield self

    def roots(self) -> list[int]:
        """The processes on top of all of its own."""
        return [self.pid]

    def waiting(self) -> int:
        """Recipients that are not delivered yet."""
        admin = open_admin(self.data_dir)
        try:
            return sum(row.queued + row.active for row in admin.summary(Selection()))
        finally:
            admin.close()

    def _settings(self) -> str:
        options = self.options
        listener = 'tls = "starttls"\nauth = "required"' if options.secure else 'tls = "none"\nauth = "optional"'
        text = f"""hostname = "relay.example.com"
data_dir = "data"
workers = {options.workers}

[[listener]]
address = "127.0.0.1:{self.port}"
{listener}

[submission]
trusted_networks = ["127.0.0.0/8"]
"""
        if options.secure:
            assert options.secrets is not None
            text += f'\n[tls]\ncertificate = "{options.secrets.certificate}"\nkey = "{options.secrets.key}"\n'
        if options.dkim:
            assert options.secrets is not None
            text += f'\n[dkim."example.com"]\nselector = "bench"\nkey = "{options.secrets.dkim_key}"\n'
        return text + options.extra
