"""Converts raw TOML values according to the schema; each value yields a setting or a problem.

A section with a problem yields no value, but the walk continues with the others, so that one run finds all problems.
`relay_config.load` starts the walk; `relay_config.scalar` reads single words and numbers.
"""

import os.path
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from relay_config.nearest import did_you_mean
from relay_config.problems import Findings, KeyPath, found, key_text, one_of, show
from relay_config.scalar import ValueRefusedError, read_scalar
from relay_config.schema_base import Section
from relay_config.shape import Array, Choice, Keyed, Scalar, Setting, Shape, Table

S = TypeVar("S", bound=Section)

PATH_CHECKS: Final = frozenset({"file", "secret_file", "dkim_key", "password_file", "folder", "log"})
"""Checks of settings whose values are paths, relative to the settings file's folder."""
LOWERED_CHECKS: Final = frozenset({"domains", "domain", "sites"})
"""Checks of settings that hold domain names, which are compared in lower case."""


class Leaf(NamedTuple):
    """One well-formed value from the settings, with its setting: the value itself, an array element or a key."""

    path: KeyPath
    setting: Setting
    value: Any


class _Bad:
    """The type of the marker for a value whose problem was recorded."""


_BAD: Final = _Bad()


class Reader:
    """One walk over one file's tables."""

    def __init__(self, findings: Findings, folder: Path) -> None:
        self._findings = findings
        self._folder = folder
        self.leaves: list[Leaf] = []

    def section(self, cls: type[S], raw: Any, path: KeyPath) -> S | None:
        """The section in the table `raw`, or None after recording its problems."""
        if not isinstance(raw, dict):
            self._findings.problem(path, found(raw), f"write a table: [{key_text(path)}]")
            return None
        settings = Table(cls).settings
        for name in raw.keys() - settings.keys():
            self._findings.problem((*path, name), "unknown key", _unknown_remedy(name, settings, path))
        values = {name: self._setting(setting, raw.get(name), (*path, name)) for name, setting in settings.items()}
        if _BAD in values.values():
            return None
        return cls(**{settings[name].attribute: value for name, value in values.items()})

    def _setting(self, setting: Setting, raw: Any, path: KeyPath) -> Any:
        if raw is not None:
            return self._value(setting, setting.shape, raw, path)
        if setting.required:
            example = setting.example
            shown = f", e.g. {self._findings.assignment(path, example)}" if example is not None else ""
            self._findings.problem(path, "not set", f"set it{shown}")
            return _BAD
        return setting.default

    def _value(self, setting: Setting, shape: Shape, raw: Any, path: KeyPath) -> Any:
        if isinstance(shape, Table):
            section = self.section(shape.cls, raw, path)
            return _BAD if section is None else section
        if isinstance(shape, Array):
            return self._array(setting, shape, raw, path)
        if isinstance(shape, Keyed):
            return self._keyed(setting, shape, raw, path)
        return self._leaf(setting, shape, raw, path)

    def _array(self, setting: Setting, shape: Array, raw: Any, path: KeyPath) -> Any:
        if setting.single and isinstance(raw, dict):
            # The path of the only element has no array position, as in the file.
            only = self._value(setting, shape.item, raw, path)
            return only if only is _BAD else (only,)
        if not isinstance(raw, list):
            tables = isinstance(shape.item, Table)
            remedy = f"write [[{key_text(path)}]]" if tables else f"write an array: [{show(raw)}]"
            self._findings.problem(path, found(raw), remedy)
            return _BAD
        if len(raw) < setting.bounds.items:
            self._findings.problem(path, "found an empty array", "write at least one element")
            return _BAD
        items = tuple(self._value(setting, shape.item, item, (*path, index)) for index, item in enumerate(raw))
        return _BAD if _BAD in items else items

    def _keyed(self, setting: Setting, shape: Keyed, raw: Any, path: KeyPath) -> Any:
        if not isinstance(raw, dict):
            self._findings.problem(path, found(raw), f'write a table: [{key_text(path)}."{setting.example}"]')
            return _BAD
        values: dict[str, Any] = {}
        for key, item in raw.items():
            name = key.lower()
            if name in values:
                self._findings.problem((*path, key), "the same name twice", f"keep one {name}; case does not matter")
                values[name] = _BAD
                continue
            self.leaves.append(Leaf((*path, key), setting, name))
            values[name] = self._value(setting, shape.item, item, (*path, key))
        return _BAD if _BAD in values.values() else values

    def _leaf(self, setting: Setting, shape: Scalar | Choice, raw: Any, path: KeyPath) -> Any:
        if isinstance(shape, Choice):
            if not isinstance(raw, str) or raw not in shape.words:
                self._findings.problem(path, found(raw), one_of(shape.words))
                return _BAD
            return raw
        try:
            value = read_scalar(setting, shape.type, raw)
        except ValueRefusedError as error:
            self._findings.problem(path, found(raw), str(error))
            return _BAD
        if setting.check in PATH_CHECKS:
            value = self._absolute(setting, value)
        elif setting.check in LOWERED_CHECKS:
            value = value.lower()
        self.leaves.append(Leaf(path, setting, value))
        return value

    def _absolute(self, setting: Setting, value: str) -> str:
        if setting.check == "log" and value == "stderr":
            return value
        return os.path.normpath(self._folder / value)


def _unknown_remedy(name: str, settings: dict[str, Setting], path: KeyPath) -> str:
    hint = did_you_mean(name, settings)
    if hint is not None:
        return f"did you mean {hint}?"
    if not path:
        # The usual mistake: a line was uncommented, but not the [table] above it.
        for setting in settings.values():
            if isinstance(setting.shape, Table) and name in setting.shape.settings:
                return f"write it below [{setting.name}]"
    return "remove it"
