"""Checks whether settings can work: for `relay check`, and for `relay serve` before it starts or reloads.

In addition to `relay_config.load`, it checks that values are meaningful (`check_values`), that files exist and have the
right content (`check_files`), and that settings fit each other (`check_rules`). It opens files but never uses the
network. All problems are reported at once, so values and files are checked even if other settings could not be read;
only the rules between settings need all of them.
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
    """The settings; None if there is any problem."""
    problems: tuple[Problem, ...]
    """Problems that prevent the relay from starting."""
    warnings: tuple[Problem, ...]
    """Doubtful settings, with which the relay starts."""
    at: Callable[[KeyPath, str, str], Problem]
    """Builds a further problem from (path of the setting, what was found, remedy); it names the file or variable."""

    def checked(self) -> Settings:
        """The settings. Raises one `SettingsError` with all problems."""
        if self.settings is None:
            raise SettingsError(self.problems)
        return self.settings


def check(path: Path | None, environ: Mapping[str, str], now: float) -> Report:
    """Read and check the settings file; if `path` is None, the settings of the environment alone.

    `now` (seconds since the epoch) is used to check whether certificates have expired.
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
            # Rules and certificate checks need addresses that parse and files that can be read.
            check_certificate(settings, now, findings)
            check_reload(settings, findings)
            for rule in RULES:
                rule(settings, findings)
    problems = tuple(findings.problems)
    return Report(None if problems else settings, problems, tuple(findings.warnings), findings.at)


def load_checked(path: Path | None, environ: Mapping[str, str], now: float) -> Settings:
    """Settings that passed the whole check, for a server to start or reload. Raises one `SettingsError`."""
    return check(path, environ, now).checked()
