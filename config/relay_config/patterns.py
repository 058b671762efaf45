"""Patterns of domain names, as routes and throttles use them: `example.org`, `*.example.org` (sub-domains), `*` (all).

`*.example.org` matches names at any depth below `example.org`, but not the name itself. Names must be A-labels, in any
case. The caller decides which route wins; this module only matches, and finds the most specific of several patterns.
"""

from collections.abc import Mapping
from typing import TypeVar

from relay_config.names import check_domain

T = TypeVar("T")


def check_pattern(pattern: str) -> None:
    """Raise `BadNameError` unless the text is a pattern."""
    if pattern != "*":
        check_domain(pattern.removeprefix("*."), underscores=True)


def matches(pattern: str, name: str) -> bool:
    """Whether the domain `name` falls under `pattern`."""
    pattern, name = pattern.lower(), name.lower()
    if pattern == "*":
        return True
    if pattern.startswith("*."):
        return len(name) > len(pattern) - 1 and name.endswith(pattern[1:])
    return pattern == name


def most_specific(table: Mapping[str, T], name: str) -> T | None:
    """The value of the most specific pattern: the name, else the longest `*.parent`, else `*`; None if none matches.

    Keys of `table` must be in lower case (as in loaded settings). One look-up per label, however many patterns.
    """
    name = name.lower()
    if name in table:
        return table[name]
    parent = name.partition(".")[2]
    while parent:
        pattern = f"*.{parent}"
        if pattern in table:
            return table[pattern]
        parent = parent.partition(".")[2]
    return table.get("*")
