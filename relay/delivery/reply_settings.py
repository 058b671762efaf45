"""The rules of `[[reply_rule]]`, ready to be asked: which one decides about a reply, if any. Pure.

The settings were checked before (`relay_config.reply_patterns` says what a pattern may be). Nothing is compiled while
mail is delivered; without any rule, a question costs a comparison.
"""

import msgspec

from relay.delivery.routes import Route
from relay.smtp.reply import Reply
from relay_config.patterns import matches
from relay_config.reply_patterns import Pattern, compile_reply_pattern, occurs
from relay_config.schema_replies import ReplyRule


class Origin(msgspec.Struct, frozen=True):
    """Where a reply came from, and about whom."""

    lane: str = ""
    """Name of the route: of a smarthost, `host:port`."""
    hosts: tuple[str, ...] = ()
    """The site's MX hosts."""
    domain: str = ""
    """The recipient's."""
    credentials: bool = False
    """We authenticate there."""


def origin_of(route: Route, domain: str) -> Origin:
    """The origin of replies on a route, about a recipient's domain."""
    hosts = tuple(host for group in route.hosts for host in group)
    return Origin(route.lane, hosts, domain, route.smarthost is not None and route.smarthost.user is not None)


class ReplyRules:
    """The settings' rules in their order."""

    __slots__ = ("_rules",)

    def __init__(self, rules: tuple[ReplyRule, ...] = ()) -> None:
        self._rules: list[tuple[str, Pattern, ReplyRule]] = [
            (f"reply_rule[{index}]", compile_reply_pattern(rule.pattern), rule) for index, rule in enumerate(rules)
        ]

    def find(self, reply: Reply, origin: Origin) -> tuple[str, ReplyRule] | None:
        """Name and rule of the first that matches a refusal; a 2xx or 3xx reply is never matched."""
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
