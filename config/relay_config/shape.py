"""The schema as a tree: the allowed values of each setting, its help and its default.

Loading, the environment overrides, the example file and the reference all walk this tree, so that the records of
`relay_config.schema` are the only definition of a setting. Nothing here knows a particular setting.
"""

import types
import typing
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import msgspec

from relay_config.schema_base import Section
from relay_config.words import Duration, Rate, Size


@dataclass(frozen=True, slots=True)
class Scalar:
    """A string, integer, float, boolean, or one of the word types."""

    type: type[Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a fixed set of words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """An array of items of the same shape."""

    item: "Shape"


@dataclass(frozen=True, slots=True)
class Keyed:
    """A table with free keys (domains)."""

    item: "Shape"


@dataclass(frozen=True, slots=True)
class Table:
    """A section: a table with known keys."""

    cls: type[Section]

    @property
    def settings(self) -> "dict[str, Setting]":
        """The section's settings by name, in the schema's order."""
        return _settings(self.cls)


Shape: TypeAlias = Scalar | Choice | Array | Keyed | Table


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits of a number, and the minimum length of an array."""

    least: float | None = None
    most: float | None = None
    items: int = 0
    """Minimum number of elements of an array."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a section."""

    name: str
    """The key in the settings file."""
    attribute: str
    """The field of the record; differs from `name` if that is a Python keyword (`class`)."""
    shape: Shape
    optional: bool
    """None is allowed (and is the default): the key is left out."""
    required: bool
    default: Any
    """None if the setting is required."""
    help: str
    example: Any
    """A value as written in the file, for settings whose default shows none."""
    check: str | None
    """Name of the test in `relay_config.check` that applies."""
    least: str | None
    """The smallest duration or size, as text; None: any value above zero."""
    single: bool
    """A single table may be written instead of an array with one element."""
    bounds: Bounds


ROOT_NAME: Final = "Settings"


@cache
def _settings(cls: type[Section]) -> dict[str, Setting]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.encode_name: _setting(field, hints[field.name]) for field in msgspec.structs.fields(cls)}


def _setting(field: msgspec.structs.FieldInfo, hint: Any) -> Setting:
    bare, metas = _unwrap(hint)
    options = [option for option in typing.get_args(bare) if option is not types.NoneType]
    optional = typing.get_origin(bare) in {typing.Union, types.UnionType}
    if optional:
        bare, inner = _unwrap(options[0])
        metas += inner
    extra: dict[str, Any] = {}
    for meta in metas:
        extra |= meta.extra or {}
    default = None if field.required else _default(field)
    return Setting(
        name=field.encode_name,
        attribute=field.name,
        shape=_shape(bare),
        optional=optional,
        required=field.required,
        default=default,
        help=next((meta.description for meta in metas if meta.description), ""),
        example=extra.get("example"),
        check=extra.get("check"),
        least=extra.get("least"),
        single=extra.get("single", False),
        bounds=_bounds(metas),
    )


def _unwrap(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    if typing.get_origin(hint) is typing.Annotated:
        bare, *metas = typing.get_args(hint)
        return bare, [meta for meta in metas if isinstance(meta, msgspec.Meta)]
    return hint, []


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return field.default
    return field.default_factory()


def _bounds(metas: list[msgspec.Meta]) -> Bounds:
    def last(name: str) -> Any:
        return next((getattr(meta, name) for meta in metas if getattr(meta, name) is not None), None)

    return Bounds(least=last("ge"), most=last("le"), items=last("min_length") or 0)


def _shape(bare: Any) -> Shape:
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    if origin is Literal:
        return Choice(arguments)
    if origin is tuple:
        return Array(_shape(_unwrap(arguments[0])[0]))
    if origin is dict:
        return Keyed(_shape(_unwrap(arguments[1])[0]))
    if bare in {str, int, float, bool, Duration, Size, Rate}:
        return Scalar(bare)
    assert issubclass(bare, Section), f"the schema uses {bare}, which settings cannot hold"
    return Table(bare)
