"""Finds the `[[reply_rule]]` of the settings that matches a reply, if any. Pure functions.

The settings were validated before; `relay_config.reply_patterns` documents the pattern syntax. All patterns are
compiled when the settings are loaded. Without any rule, a search costs one comparison.
"""

import msgspec

from relay.delivery.routes import Route
from relay.smtp.reply import Reply
from relay_config.patterns import matches
from relay_config.reply_patterns import Pattern, compile_reply_pattern, occurs
from relay_config.schema_replies import ReplyRule


class Origin(msgspec.Struct, frozen=True):
    """The server that sent a reply, and the recipient domain that the reply is about."""

    lane: str = ""
    """Name of the route's lane; for a smarthost, `host:port`."""
    hosts: tuple[str, ...] = ()
    """The site's MX hosts."""
    domain: str = ""
    """The recipient's domain."""
    credentials: bool = False
    """Whether the relay authenticates at the server."""


def origin_of(route: Route, domain: str) -> Origin:
    """Return the origin of replies on a route about a recipient's domain."""
    hosts = tuple(host for group in route.hosts for host in group)
    return Origin(route.lane, hosts, domain, route.smarthost is not None and route.smarthost.user is not None)


class ReplyRules:
    """The rules of the settings, in order."""

    __slots__ = ("_rules",)

    def __init__(self, rules: tuple[ReplyRule, ...] = ()) -> None:
        self._rules: list[tuple[str, Pattern, ReplyRule]] = [
            (f"reply_rule[{index}]", compile_reply_pattern(rule.pattern), rule) for index, rule in enumerate(rules)
        ]

    def find(self, reply: Reply, origin: Origin) -> tuple[str, ReplyRule] | None:
        """Return name and rule of the first rule that matches a refusal. A 2xx or 3xx reply never matches."""
        if not self._rules or reply.positive:
            return None
        codes = f"{reply.code} {reply.enhanced}" if reply.enhanced else str(reply.code)
        text = f"{codes} {reply.text}".replace("\n", " ")
        for name, pattern, rule in self._rules:
            if _concerned(rule, origin) and occurs(pattern, text):
                return name, rule
        return None


def _concerned(rule: ReplyRule, origin: Origin) -> bool:
    if rule.domain is not None and not matches(rule.domain, origin.domain):
        return False
    if rule.site is None or rule.site == origin.lane:
        return True
    return any(matches(rule.site, host) for host in origin.hosts)
