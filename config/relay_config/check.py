"""Whether settings can work: everything `relay check` says, and what `relay serve` asks before it starts or reloads.

Beyond `relay_config.load`: values that must mean something (`check_values`), files that must be there and fit
(`check_files`), settings that must fit each other (`check_rules`). It opens files and never the network. All problems
come at once, so values and files are checked even where other settings could not be read; only the rules between
settings wait until all of them could.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay_config.check_files import FILE_CHECKS, check_folder
from relay_config.check_rules import RULES
from relay_config.check_secrets import check_certificate, check_reload
from relay_config.check_values import VALUE_CHECKS
from relay_config.load import read
from relay_config.problems import KeyPath, Problem, SettingsError
from relay_config.schema import Settings


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a check."""

    settings: Settings | None
    """The settings; None where there is any problem."""
    problems: tuple[Problem, ...]
    """What keeps the relay from starting."""
    warnings: tuple[Problem, ...]
    """What deserves a look; the relay starts."""
    at: Callable[[KeyPath, str, str], Problem]
    """A further problem of the setting at a path (what was found, remedy), with the name of its place."""

    def checked(self) -> Settings:
        """The settings, or one `SettingsError` with all problems."""
        if self.settings is None:
            raise SettingsError(self.problems)
        return self.settings


def check(path: Path | None, environ: Mapping[str, str], now: float) -> Report:
    """Read and check the settings file; without a path, those of the environment alone.

    `now` (seconds since 1970) decides whether certificates have expired.
    """
    reading = read(path, environ)
    findings, settings = reading.findings, reading.settings
    for leaf in reading.leaves:
        for checks in (VALUE_CHECKS, FILE_CHECKS):
            test = checks.get(leaf.setting.check or "")
            if test is not None:
                test(leaf.value, leaf.path, findings)
    if settings is not None:
        if ("data_dir",) not in {leaf.path for leaf in reading.leaves}:
            check_folder(settings.data_dir, ("data_dir",), findings)
        if not findings.problems:
            # Rules and certificates look at parsed addresses and readable files.
            check_certificate(settings, now, findings)
            check_reload(settings, findings)
            for rule in RULES:
                rule(settings, findings)
    problems = tuple(findings.problems)
    return Report(None if problems else settings, problems, tuple(findings.warnings), findings.at)


def load_checked(path: Path | None, environ: Mapping[str, str], now: float) -> Settings:
    """What a server starts and reloads with: settings that passed the whole check, or one `SettingsError`."""
    return check(path, environ, now).checked()
