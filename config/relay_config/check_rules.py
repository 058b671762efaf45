"""Rules between settings: combinations that cannot work, are unsafe, or have no effect.

Every rule is a pure function of complete, well-formed settings; each single value has been checked before.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from relay_config.endpoints import Endpoint, is_loopback, is_unspecified, parse_endpoint, parse_host_port
from relay_config.patterns import matches
from relay_config.problems import Findings, KeyPath, found
from relay_config.schema import LaneOverride, Listener, Route, Settings
from relay_config.words import Duration, format_duration

Rule: TypeAlias = Callable[[Settings, Findings], None]


def _certificate_given(settings: Settings, findings: Findings) -> None:
    tls = settings.tls
    if (tls.certificate is None) != (tls.key is None):
        missing = "certificate" if tls.certificate is None else "key"
        findings.problem(("tls", missing), "not set", "set both certificate and key, or neither")
    if tls.certificate is not None:
        return
    for index, listener in enumerate(settings.listener):
        if listener.tls != "none":
            remedy = 'set certificate and key in [tls], or tls = "none" here'
            findings.problem(("listener", index, "tls"), f"{found(listener.tls)} without a certificate", remedy)


def _listeners_differ(settings: Settings, findings: Findings) -> None:
    if not settings.listener:
        findings.warn(("listener",), "not set", "add a [[listener]]: without one the relay takes no mail")
    seen: dict[Endpoint, str] = {}
    if settings.sandbox.receiver is not None:
        seen[parse_endpoint(settings.sandbox.receiver)] = "sandbox.receiver"
    for index, listener in enumerate(settings.listener):
        endpoint = parse_endpoint(listener.address)
        if endpoint in seen and endpoint.port:
            findings.problem(
                ("listener", index, "address"),
                f"{found(listener.address)}, the same as {seen[endpoint]}",
                "use another port or address",
            )
        seen.setdefault(endpoint, f"listener[{index}]")


def _listeners_usable(settings: Settings, findings: Findings) -> None:
    trusted = settings.submission.trusted_networks
    for index, listener in enumerate(settings.listener):
        host = parse_endpoint(listener.address).host
        path: KeyPath = ("listener", index)
        _login_possible(listener, host, path, findings)
        if listener.auth == "off" and not trusted:
            remedy = 'set submission.trusted_networks, or auth = "required"'
            findings.warn(
                (*path, "auth"), f"{found('off')} with no trusted network", "nobody may relay here; " + remedy
            )
        if listener.proxy_protocol and trusted and not is_loopback(host):
            remedy = "let only the proxy reach this port: whoever does can claim a trusted address"
            findings.warn((*path, "proxy_protocol"), "found true", remedy)


def _login_possible(listener: Listener, host: str, path: KeyPath, findings: Findings) -> None:
    if listener.tls != "none" or listener.auth != "required":
        return
    if listener.plaintext_auth and is_loopback(host):
        return
    if listener.plaintext_auth and is_unspecified(host):
        findings.warn(
            (*path, "plaintext_auth"), "found true without TLS", "only clients on this machine can log in here"
        )
        return
    remedy = 'set tls = "starttls" or "implicit"'
    if is_loopback(host):
        remedy += ", or plaintext_auth = true"
    findings.problem((*path, "auth"), 'found "required" with tls = "none": nobody could log in', remedy)


def _retries_before_expiry(settings: Settings, findings: Findings) -> None:
    retry = settings.retry
    if retry.expire_after < retry.schedule[0]:
        shown = found(format_duration(retry.expire_after))
        first = format_duration(retry.schedule[0])
        findings.problem(("retry", "expire_after"), shown, f"use at least the first wait of retry.schedule, {first}")
    elif retry.delay_notice_after >= retry.expire_after:
        shown = found(format_duration(retry.delay_notice_after))
        findings.warn(("retry", "delay_notice_after"), shown, "no delay is ever told: mail expires before")


def _pauses_ordered(settings: Settings, findings: Findings) -> None:
    throttle = settings.throttle
    _pause_ordered(("throttle",), throttle.backoff, throttle.backoff_max, findings)
    tables: tuple[tuple[str, dict[str, LaneOverride]], ...] = (("site", throttle.site), ("domain", throttle.domain))
    for table, overrides in tables:
        for name, lane in overrides.items():
            backoff = throttle.backoff if lane.backoff is None else lane.backoff
            most = throttle.backoff_max if lane.backoff_max is None else lane.backoff_max
            if lane.backoff is not None or lane.backoff_max is not None:
                _pause_ordered(("throttle", table, name), backoff, most, findings)


def _pause_ordered(path: KeyPath, backoff: Duration, most: Duration, findings: Findings) -> None:
    if backoff > most:
        remedy = f"use at most backoff_max, which is {format_duration(most)}"
        findings.problem((*path, "backoff"), found(format_duration(backoff)), remedy)


def _routes_usable(settings: Settings, findings: Findings) -> None:
    for index, route in enumerate(settings.route):
        path: KeyPath = ("route", index)
        if (route.user is None) != (route.password_file is None):
            missing = "user" if route.user is None else "password_file"
            findings.problem((*path, missing), "not set", "set both user and password_file, or neither")
        elif route.user is not None and _may_lack_tls(route):
            remedy = 'use "required", "verify" or "implicit": the password would cross the network in the clear'
            findings.problem((*path, "tls"), f"{found(route.tls)} with a password", remedy)
        for position, pattern in enumerate(route.domains):
            _route_reached(settings, (*path, "domains", position), pattern, findings)


def _may_lack_tls(route: Route) -> bool:
    return route.tls in {"none", "opportunistic"} and not is_loopback(parse_host_port(route.relay_host).host)


def _route_reached(settings: Settings, path: KeyPath, pattern: str, findings: Findings) -> None:
    index = path[1]
    assert isinstance(index, int), "a route's path is its number in the array"
    for earlier in range(index):
        for other in settings.route[earlier].domains:
            # A wildcard covers another pattern if it matches the name below the other's `*.`, or if both are the same.
            if other == pattern or (other.startswith("*") and matches(other, pattern.removeprefix("*."))):
                findings.warn(path, found(pattern), f"route[{earlier}] takes this mail first; order the routes")
                return


def _reply_rules_decide(settings: Settings, findings: Findings) -> None:
    for index, rule in enumerate(settings.reply_rule):
        path: KeyPath = ("reply_rule", index)
        if rule.failure is None and rule.disposition is None and rule.pause is None:
            findings.problem(path, "no class, disposition or pause", "set at least one: the rule changes nothing")
        if rule.pause is not None and rule.disposition == "permanent":
            shown = found(format_duration(rule.pause))
            findings.warn((*path, "pause"), shown, "a permanent refusal does not pause the lane")


def _keys_differ(settings: Settings, findings: Findings) -> None:
    for domain, keys in settings.dkim.items():
        selectors = [key.selector for key in keys]
        if len(set(selectors)) < len(selectors):
            findings.problem(("dkim", domain), "the same selector twice", "give each key its own selector")


def _addresses_usable(settings: Settings, findings: Findings) -> None:
    if not settings.delivery.ipv4 and not settings.delivery.ipv6:
        findings.problem(("delivery", "ipv4"), "found false, as ipv6 is", "set one of ipv4 and ipv6 to true")


def _limits_fit(settings: Settings, findings: Findings) -> None:
    if settings.limits.header_size > settings.submission.max_message_size:
        remedy = "use at most submission.max_message_size"
        findings.warn(("limits", "header_size"), "larger than a whole message may be", remedy)
    if settings.limits.connections_per_address > settings.limits.connections:
        findings.warn(("limits", "connections_per_address"), "more than limits.connections", "one client can take all")
    reserved = settings.limits.reserved_connections
    if reserved is not None and reserved >= settings.limits.connections:
        remedy = (
            f"use less than limits.connections, which is {settings.limits.connections}: no new client could connect"
        )
        findings.problem(("limits", "reserved_connections"), found(reserved), remedy)


RULES: Final[tuple[Rule, ...]] = (
    _certificate_given,
    _listeners_differ,
    _listeners_usable,
    _retries_before_expiry,
    _pauses_ordered,
    _routes_usable,
    _reply_rules_decide,
    _keys_differ,
    _addresses_usable,
    _limits_fit,
)
