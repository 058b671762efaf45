"""Reads a settings file and the environment into `Settings`, or reports every problem.

The file is walked setting by setting along the schema, so that one run reports all problems: unknown keys, wrong
types, bad words, values out of range, missing keys. `relay_config.check` examines what the values refer to (files,
certificates, other settings); this module opens only the settings file.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from relay_config.environment import names_settings, overlay, variable_of
from relay_config.problems import Findings, Problem, SettingsError
from relay_config.read import Leaf, Reader
from relay_config.schema import Settings

CONFIG_VARIABLE: Final = "RELAY_CONFIG"
SYSTEM_FILE: Final = Path("/etc/relay/relay.toml")
ENVIRONMENT: Final = "environment"
"""The file name in problems if all settings come from variables."""


@dataclass(slots=True)
class Reading:
    """The result of reading: the settings or, if there are problems, the values that could be read."""

    settings: Settings | None
    """None if any problem was found."""
    leaves: list[Leaf]
    """Every well-formed value in the settings, for `relay_config.check`."""
    findings: Findings


def find_settings(environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The settings file to use when none is named: `$RELAY_CONFIG`, `./relay.toml`, `/etc/relay/relay.toml`.

    Returns None if there is no file but there are `RELAY_…` variables: then all settings come from these. Raises
    `SettingsError` if there is neither. A file named by the variable is returned whether it exists or not.
    """
    named = environ.get(CONFIG_VARIABLE)
    if named:
        return cwd / named
    for candidate in (cwd / "relay.toml", SYSTEM_FILE):
        if candidate.is_file():
            return candidate
    if names_settings(environ):
        return None
    remedy = f"create one with `relay init DIR`, name it with `-c FILE` or ${CONFIG_VARIABLE}, or set RELAY_… variables"
    raise SettingsError([Problem("relay.toml", "", f"no such file here, nor {SYSTEM_FILE}", remedy)])


def load(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of `path`, overridden by `RELAY_…` variables; raises one `SettingsError` with all problems.

    If `path` is None, only the environment is read. Relative paths are made absolute: they start at the folder of the
    settings file or, without a file, at the current folder.
    """
    reading = read(path, environ)
    if reading.settings is None:
        raise SettingsError(reading.findings.problems)
    return reading.settings


def read(path: Path | None, environ: Mapping[str, str]) -> Reading:
    """As `load`, but does not raise: returns the problems together with the values that could be read."""
    if path is None:
        return _read({}, Path.cwd(), environ, Findings(ENVIRONMENT, variable_of))
    findings = Findings(str(path))
    table = _parse(path, findings)
    if table is None:
        return Reading(None, [], findings)
    return _read(table, path.parent.absolute(), environ, findings)


def _read(table: dict[str, Any], folder: Path, environ: Mapping[str, str], findings: Findings) -> Reading:
    overlay(table, environ, findings)
    reader = Reader(findings, folder)
    settings = reader.section(Settings, table, ())
    if findings.problems:
        settings = None
    return Reading(settings, reader.leaves, findings)


def _parse(path: Path, findings: Findings) -> dict[str, Any] | None:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return tomllib.loads(text.replace("\r\n", "\n"))
    except FileNotFoundError:
        found, remedy = "no such file", "create it with `relay init DIR`, or name another with `-c FILE`"
    except OSError as error:
        found, remedy = f"cannot be read ({error.strerror})", "make it a file that this user can read"
    except UnicodeDecodeError as error:
        found, remedy = f"octet {error.start} is not UTF-8", "save the file as UTF-8"
    except RecursionError:
        found, remedy = "arrays or tables nested too deep", "write at most one array in another"
    except tomllib.TOMLDecodeError as error:
        # The message ends in the place: "Invalid value (at line 3, column 7)".
        what, _, place = str(error).rpartition(" (at ")
        findings.problems.append(Problem(str(path), place.removesuffix(")"), what, "mend the TOML; texts need quotes"))
        return None
    except ValueError:
        found, remedy = "a number has too many digits", "write a smaller number"
    findings.problems.append(Problem(str(path), "", found, remedy))
    return None
