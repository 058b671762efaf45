"""Settings from `RELAY_…` variables, which override those of the file: `RELAY_SUBMISSION__MAX_MESSAGE_SIZE=10MiB`.

A double underscore goes one table deeper; a number selects an element of an array (the next free number adds one).
Texts, words and choices are written without quotes, and arrays of them may be separated by commas; other arrays and
tables are written as in JSON or TOML. So every setting can be given without a file, in the variables of any shell,
container or unit file: domain names, which few of these allow in a variable's name, are keys of a JSON table. This
module changes only the raw tables; `relay_config.load` checks the values.
"""

import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from relay_config.nearest import did_you_mean
from relay_config.problems import Findings, KeyPath, Problem, found
from relay_config.schema import Settings
from relay_config.shape import Array, Choice, Keyed, Scalar, Setting, Shape, Table
from relay_config.words import Duration, Rate, Size

PREFIX: Final = "RELAY_"
RESERVED: Final = frozenset({"RELAY_CONFIG"})
"""Variables with the prefix that are not settings: the path of the settings file."""
_SERVICE_LINK: Final = re.compile(r"RELAY_(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP)(_.*)?)?)")
"""Variables that Kubernetes and Docker links set in every container next to a service named `relay`."""


def names_settings(environ: Mapping[str, str]) -> bool:
    """Whether any variable is a setting, so that the relay can run without a settings file."""
    return any(map(_is_ours, environ))


def variable_of(path: KeyPath) -> str:
    """The variable that sets the setting at `path`."""
    return PREFIX + "__".join(str(part).upper() for part in path)


class _Override(NamedTuple):
    path: KeyPath
    variable: str
    value: Any


def overlay(table: dict[str, Any], environ: Mapping[str, str], findings: Findings) -> None:
    """Put the variables' values into the file's `table`; records problems and origins in `findings`."""
    overrides = list(_overrides(environ, findings))
    # Shorter paths first and array elements in numeric order, so that a whole array is set before its elements.
    overrides.sort(key=lambda override: (len(override.path), [_order(part) for part in override.path]))
    for override in overrides:
        remedy = _put(table, override.path, override.value)
        if remedy is not None:
            findings.problems.append(Problem("environment", override.variable, "cannot be applied", remedy))
            continue
        findings.origins[override.path] = override.variable


def _is_ours(variable: str) -> bool:
    return variable.startswith(PREFIX) and variable not in RESERVED and not _SERVICE_LINK.fullmatch(variable)


def _overrides(environ: Mapping[str, str], findings: Findings) -> Iterator[_Override]:
    for variable, text in sorted(environ.items()):
        if not _is_ours(variable):
            continue
        try:
            path, shape, optional = _resolve(variable.removeprefix(PREFIX).split("__"))
            # An empty variable unsets an optional setting, because a container cannot always omit a variable.
            yield _Override(path, variable, None if optional and not text else _value(shape, text))
        except _OverrideError as error:
            findings.problems.append(Problem("environment", variable, error.found, error.remedy))


class _OverrideError(Exception):
    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy


def _resolve(parts: list[str]) -> tuple[KeyPath, Shape, bool]:
    """Follow the variable's parts through the schema: (path, shape, whether the setting is optional)."""
    shape: Shape = Table(Settings)
    path: KeyPath = ()
    optional = single = False
    for part in parts:
        if isinstance(shape, Array) and single and not part.isdecimal():
            shape = shape.item  # a single table instead of an array: its settings follow without a number
        if isinstance(shape, Table):
            setting = _setting(shape, part)
            path, shape, optional, single = (*path, setting.name), setting.shape, setting.optional, setting.single
        elif isinstance(shape, Array):
            if not re.fullmatch(r"[0-9]{1,4}", part):
                raise _OverrideError(found(part), "name an element of the array by its number, from 0")
            path, shape, optional = (*path, int(part)), shape.item, False
        elif isinstance(shape, Keyed):
            path, shape, optional = (*path, part.lower()), shape.item, False
        else:
            raise _OverrideError("no such setting", "a value has no settings of its own")
    return path, shape, optional


def _setting(table: Table, part: str) -> Setting:
    setting = table.settings.get(part.lower())
    if setting is None or part != part.upper():
        hint = did_you_mean(part, table.settings)
        remedy = "see docs/reference/settings.md" if hint is None else f"did you mean {hint.upper()}?"
        raise _OverrideError("no such setting", remedy)
    return setting


def _value(shape: Shape, text: str) -> Any:
    """The text of a variable as the raw value that a settings file would contain."""
    if _is_text(shape):
        return text
    if isinstance(shape, Array) and _is_text(shape.item) and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")] if text.strip() else []
    if not isinstance(shape, Scalar) and not text.strip():
        return [] if isinstance(shape, Array) else {}
    for parse in (_parse_json, _parse_toml):
        try:
            return parse(text)
        except (ValueError, RecursionError):
            continue
    raise _OverrideError(found(text), "write " + _hint(shape))


def _is_text(shape: Shape) -> bool:
    return isinstance(shape, Choice) or (isinstance(shape, Scalar) and shape.type in {str, Duration, Size, Rate})


def _parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_table, parse_constant=_refuse)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; refuses duplicate names, of which `json` would keep the last."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("the same name twice")
    # `null` means that the setting is not set.
    return {name: value for name, value in table.items() if value is not None}


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _parse_toml(text: str) -> Any:
    parsed = tomllib.loads(f"value = {text}")
    # A text with a line break could contain further keys.
    if parsed.keys() != {"value"}:
        raise ValueError("more than one value")
    return parsed["value"]


def _hint(shape: Shape) -> str:
    if isinstance(shape, Scalar):
        return {int: "a number", float: "a number", bool: "true or false"}[shape.type]
    if isinstance(shape, Array):
        if _is_text(shape.item):
            return 'the elements with commas between them, or an array as in JSON or TOML, e.g. ["a", "b"]'
        return 'an array as in JSON or TOML, e.g. [{"key": "value"}]'
    return 'a table as in JSON or TOML, e.g. {"key": "value"}'


def _order(part: str | int) -> tuple[int, str]:
    return (part, "") if isinstance(part, int) else (-1, part)


def _put(table: dict[str, Any], path: KeyPath, value: Any) -> str | None:
    """Set one value and create missing tables on its path; returns a remedy if that is impossible, else None."""
    here: Any = table
    for part, following in itertools.pairwise(path):
        remedy = _reserve(here, part, [] if isinstance(following, int) else {})
        if remedy is not None:
            return remedy
        if isinstance(following, int) and isinstance(here[part], dict):
            here[part] = [here[part]]  # a single table was written instead of an array
        here = here[part]
    remedy = _reserve(here, path[-1], value)
    if remedy is None:
        here[path[-1]] = value
    return remedy


def _reserve(here: Any, part: str | int, new: Any) -> str | None:
    """Make sure that `here[part]` exists; set it to `new` if it does not. Returns a remedy if that is impossible."""
    if isinstance(part, str):
        if not isinstance(here, dict):
            return "fix the settings first: what they have in that place is no table"
        here.setdefault(part, new)
        return None
    if not isinstance(here, list):
        return "fix the settings first: what they have in that place is no array"
    if part > len(here):
        return f"the next free number is {len(here)}"
    if part == len(here):
        here.append(new)
    return None
