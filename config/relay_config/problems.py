"""Problems with settings, one line each: where, what was found, and what to do.

Nothing here reads a file. Text from outside is shortened and escaped, so that each problem is one line.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

KeyPath: TypeAlias = tuple[str | int, ...]
"""The path of a setting: `("listener", 0, "tls")`."""

_SHOWN: Final = 200
"""Maximum number of characters of a value that are shown."""
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Problem:
    """One error (or, in a list of warnings, one doubt)."""

    file: str
    """The settings file as given by the user, or `environment`."""
    key: str
    """`listener[0].tls`, the variable's name, `line 3, column 7`, or empty for the file as a whole."""
    found: str
    """What is wrong, as a phrase: `found "startls"`, `unknown key`, `not set`."""
    remedy: str
    """What the user should do."""

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}: " if self.key else f"{self.file}: "
        return f"{where}{self.found}; {self.remedy}"


class SettingsError(Exception):
    """The settings cannot be used; holds every problem, not only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(slots=True)
class Findings:
    """Collects problems and warnings, and names the source of each: the key in the file or the variable."""

    file: str
    variable_of: Callable[[KeyPath], str] | None = None
    """Returns the variable for the setting at a path; used if there is no settings file."""
    origins: dict[KeyPath, str] = field(default_factory=dict)
    """Environment variables by the path of the setting that they set."""
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def problem(self, path: KeyPath, found: str, remedy: str) -> None:
        """Add a problem with the setting at `path`."""
        self.problems.append(self.at(path, found, remedy))

    def warn(self, path: KeyPath, found: str, remedy: str) -> None:
        """Add a warning about the setting at `path`."""
        self.warnings.append(self.at(path, found, remedy))

    def at(self, path: KeyPath, found: str, remedy: str) -> Problem:
        """Build a problem with the setting at `path` without adding it."""
        for length in range(len(path), 0, -1):
            variable = self.origins.get(path[:length])
            if variable is not None:
                rest = key_text(path[length:])
                return Problem("environment", f"{variable}: {rest}" if rest else variable, found, remedy)
        if self.variable_of is not None:
            return Problem(self.file, self.variable_of(path), found, remedy)
        return Problem(self.file, key_text(path), found, remedy)

    def assignment(self, path: KeyPath, value: Any) -> str:
        """An example that sets the setting at `path` to `value`: a line of the file, or a variable."""
        if self.variable_of is not None:
            shown = value if isinstance(value, str) else json.dumps(value)
            return f"{self.variable_of(path)}={shown}"
        return f"{path[-1]} = {show(value)}"


def key_text(path: KeyPath) -> str:
    """The path as written in TOML, with array positions: `dkim."example.com"[0].key`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        shown = part if _BARE_KEY.fullmatch(part) else _quoted(part)
        text += f".{shown}" if text else shown
    return text


def found(value: Any) -> str:
    """The phrase `found …` for a value of a settings file."""
    return f"found {show(value)}"


def show(value: Any) -> str:
    """A value as written in TOML, shortened and on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else str(value)[:_SHOWN]


def _quoted(text: str) -> str:
    # ASCII escapes make control characters and look-alikes visible, and prevent line breaks.
    return json.dumps(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def one_of(words: Iterable[str]) -> str:
    """The remedy for a setting with a fixed set of words."""
    return "use one of " + ", ".join(words)
