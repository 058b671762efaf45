"""What the records of the schema are made of: the base of all sections, and the note that every field carries."""

from typing import Any

import msgspec


def doc(
    text: str, *, example: Any = None, check: str | None = None, least: str | None = None, single: bool = False
) -> msgspec.Meta:
    """What a setting means and how it is checked.

    `example` is shown where the default shows nothing; `check` names the test of `relay_config.check`; `least` is the
    smallest duration or size allowed, in words (default: above zero); `single` lets one table stand for an array.
    """
    extra = {"example": example, "check": check, "least": least, "single": single or None}
    return msgspec.Meta(description=text, extra={name: value for name, value in extra.items() if value is not None})


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, unknown keys are errors."""
