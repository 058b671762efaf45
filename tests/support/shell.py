"""The command line in tests: a folder with settings, and `run(...)` which calls commands in this process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from relay.cli import cli

SETTINGS = """\
hostname = "relay.example.test"
data_dir = "data"
"""


@dataclass(slots=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str
    raw: bytes
    """Standard output as octets."""

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON lines."""
        return [json.loads(line) for line in self.lines]


class Shell:
    """A folder with `relay.toml` and a data folder."""

    def __init__(self, folder: Path, settings: str = SETTINGS) -> None:
        self.folder = folder
        self.settings = folder / "relay.toml"
        self.data_dir = folder / "data"
        self.settings.write_text(settings)
        self.data_dir.mkdir(mode=0o700)

    def run(self, *args: str, stdin: str | bytes | None = None) -> Ran:
        """Call `relay -c relay.toml ARGS`."""
        return run("-c", str(self.settings), *args, stdin=stdin)


def run(*args: str, stdin: str | bytes | None = None) -> Ran:
    """Call `relay ARGS`; an exception that is a fault of ours comes through."""
    return _ran(args, CliRunner().invoke(cli, list(args), input=stdin))


def _ran(args: Sequence[str], result: Result) -> Ran:
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout_bytes.decode("utf-8", "replace"), result.stderr, result.stdout_bytes)
