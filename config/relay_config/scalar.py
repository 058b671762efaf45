"""Read one TOML value as a text, number, boolean, duration, size or rate, within its setting's bounds."""

import re
from collections.abc import Callable
from typing import Any, Final

from relay_config.shape import Setting
from relay_config.words import (
    DURATION_REMEDY,
    RATE_REMEDY,
    SIZE_REMEDY,
    Duration,
    Rate,
    Size,
    WordError,
    parse_duration,
    parse_rate,
    parse_size,
)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LARGEST: Final = 2**53
"""Larger whole numbers are not exact in a float or in JSON, and no setting needs them."""


class ValueRefusedError(ValueError):
    """The value is not valid for the setting; the message is the remedy."""


def read_scalar(setting: Setting, kind: type[Any], raw: Any) -> Any:
    """Convert `raw` to a value of type `kind`; raises `ValueRefusedError` with the remedy."""
    try:
        return _READERS[kind](setting, raw)
    except WordError as error:
        raise ValueRefusedError(str(error)) from None


def _text(_setting: Setting, raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueRefusedError("write a text in quotes")
    if not raw or _CONTROL.search(raw) or raw != raw.strip():
        raise ValueRefusedError("write a text that is not empty, without blanks around it or control characters")
    return raw


def _boolean(_setting: Setting, raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise ValueRefusedError("write true or false, without quotes")
    return raw


def _integer(setting: Setting, raw: Any) -> int:
    # In Python a boolean is an integer; in a settings file it is a mistake.
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise ValueRefusedError("write a whole number, without quotes")
    _within(setting, raw)
    return raw


def _number(setting: Setting, raw: Any) -> float:
    if not isinstance(raw, int | float) or isinstance(raw, bool):
        raise ValueRefusedError("write a number, without quotes")
    _within(setting, raw)
    return float(raw)


def _within(setting: Setting, value: float) -> None:
    bounds = setting.bounds
    least = -_LARGEST if bounds.least is None else bounds.least
    most = _LARGEST if bounds.most is None else bounds.most
    # Written so that NaN, for which every comparison is false, is refused.
    if not least <= value <= most:
        upper = "" if bounds.most is None else f" and at most {bounds.most:g}"
        lower = f"at least {least:g}" if bounds.least is not None else "a smaller number"
        raise ValueRefusedError(f"use {lower}{upper}")


def _duration(setting: Setting, raw: Any) -> Duration:
    if isinstance(raw, int) and not isinstance(raw, bool):
        raise ValueRefusedError(f'name the unit: "{str(raw)[:20]}s" for seconds; ' + DURATION_REMEDY)
    value = parse_duration(_word(raw, DURATION_REMEDY))
    _at_least(value, setting, parse_duration)
    return value


def _size(setting: Setting, raw: Any) -> Size:
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= _LARGEST:
        value = Size(raw)
    else:
        value = parse_size(_word(raw, SIZE_REMEDY))
    _at_least(value, setting, parse_size)
    return value


def _at_least(value: float, setting: Setting, parse: Callable[[str], float]) -> None:
    if setting.least is None:
        if value <= 0:
            raise ValueRefusedError("use more than zero")
    elif value < parse(setting.least):
        raise ValueRefusedError(f"use at least {setting.least}")


def _rate(_setting: Setting, raw: Any) -> Rate:
    if raw == 0 and isinstance(raw, int) and not isinstance(raw, bool):
        return Rate(0, 1.0)
    return parse_rate(_word(raw, RATE_REMEDY))


def _word(raw: Any, remedy: str) -> str:
    if not isinstance(raw, str):
        raise ValueRefusedError(remedy)
    return raw


_READERS: Final[dict[type[Any], Callable[[Setting, Any], Any]]] = {
    str: _text,
    bool: _boolean,
    int: _integer,
    float: _number,
    Duration: _duration,
    Size: _size,
    Rate: _rate,
}
