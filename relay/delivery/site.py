# ruff: noqa: A005 - the field's word for it; only ever imported as `relay.delivery.site`
"""The limits of a lane: [throttle], overridden by [throttle.site] and then by [throttle.domain]. Pure functions."""

from collections.abc import Iterable

import msgspec

from relay.delivery.routes import Route
from relay_config.patterns import most_specific
from relay_config.schema import Lane, LaneOverride, Throttle


def limits_for(throttle: Throttle, route: Route, domain: str) -> tuple[str, Lane]:
    """Return (name of the lane, its limits) for a recipient domain.

    A site pattern applies when it matches any of the site's hosts: limits protect the provider behind the pattern, and
    providers mix names (Google Workspace: `aspmx.l.google.com` with `aspmx2.googlemail.com`). The match must not depend
    on MX preferences, because the lane's name does not contain them.

    A domain with its own limits gets its own lane, `site/domain`. If it shared a lane with other domains of the site,
    neither could have exactly the limits that the settings give.
    """
    limits = Lane(**{name: getattr(throttle, name) for name in Lane.__struct_fields__})
    site = _site_override(throttle.site, route)
    if site is not None:
        limits = _overridden(limits, site)
    own = most_specific(throttle.domain, domain)
    if own is None:
        return route.name, limits
    return f"{route.name}/{domain}", _overridden(limits, own)


def _site_override(table: dict[str, LaneOverride], route: Route) -> LaneOverride | None:
    """Return the most specific override: the lane's whole name, a host's name, the longest `*.parent`, or `*`."""
    if not table:
        return None
    if route.lane in table:
        return table[route.lane]
    best: tuple[bool, int, str] | None = None
    for name in _names(route):
        for pattern in _patterns(name):
            if pattern in table:
                rank = ("*" not in pattern, len(pattern), pattern)
                best = rank if best is None else max(best, rank)
                break
    return table[best[2]] if best is not None else None


def _names(route: Route) -> Iterable[str]:
    return (host for group in route.hosts for host in group)


def _patterns(name: str) -> Iterable[str]:
    """Yield all patterns that match a name, most specific first."""
    yield name
    parent = name.partition(".")[2]
    while parent:
        yield f"*.{parent}"
        parent = parent.partition(".")[2]
    yield "*"


def _overridden(limits: Lane, override: LaneOverride) -> Lane:
    changes = {name: value for name in LaneOverride.__struct_fields__ if (value := getattr(override, name)) is not None}
    return msgspec.structs.replace(limits, **changes)
