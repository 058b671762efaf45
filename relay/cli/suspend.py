"""`relay suspend add|list|remove`: stop deliveries to a domain or a site, or of a user, for a while."""

import shlex
import time
from fnmatch import fnmatchcase
from typing import Any

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import NothingMatchedError
from relay.cli.output import clock_time, count, emit_json, emit_listing, iso_time, json_option, printable, span
from relay.cli.selection import domain_name
from relay.cli.words import DURATION
from relay_queue.model import Suspension, SuspensionKind

_SHOWN = 20
"""Maximum number of suspensions named in the record of their removal."""


@click.group()
def suspend() -> None:
    """Stop deliveries for a while; mail is still accepted and waits."""


@suspend.command()
@click.option("--domain", metavar="DOMAIN", help="To this recipient domain.")
@click.option("--site", metavar="PATTERN", help="To this site (MX host or smarthost; * and ? as wildcards).")
@click.option("--user", metavar="NAME", help="Of mail submitted by this user.")
@click.option("--for", "duration", type=DURATION, metavar="TIME", help="How long, e.g. 2h. Default: until removed.")
@click.option(
    "--reason", metavar="TEXT", default="suspended by an administrator", help="Shown wherever the mail is shown."
)
@json_option
@pass_shell
def add(
    shell: Shell,
    domain: str | None,
    site: str | None,
    user: str | None,
    duration: float | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    """Stop deliveries."""
    kind, value = _target(domain, site, user)
    now = time.time()
    with shell.admin() as admin:
        made = admin.suspend(SuspensionKind(kind), value, reason, None if duration is None else now + duration, now)
    shell.wake()
    lasts = "" if duration is None else f" --for {duration:.0f}s"
    shell.record_steered(f"suspend {kind} {value}", 1, filters=f"--{kind} {shlex.quote(value)}{lasts}", reason=reason)
    if as_json:
        emit_json(_record(made))
        return
    until = f"until {clock_time(made.until)}" if made.until is not None else "until removed"
    done = f"Suspended {kind} {value} {until}; `relay suspend remove {made.id}` ends it sooner."
    click.echo(printable(done))


@suspend.command("list")
@json_option
@pass_shell
def list_(shell: Shell, *, as_json: bool) -> None:
    """List suspensions in force."""
    now = time.time()
    with shell.admin() as admin:
        stops = [stop for stop in admin.suspensions() if stop.until is None or stop.until > now]
    emit_listing(
        stops,
        as_json=as_json,
        headers=("N", "KIND", "VALUE", "SINCE", "LEFT", "REASON"),
        row=lambda stop: _row(stop, now),
        record=_record,
        nothing="Nothing is suspended.",
        right=frozenset({0}),
    )


@suspend.command()
@click.argument("numbers", nargs=-1, type=int, metavar="[N]...")
@click.option("--domain", metavar="DOMAIN", help="Of this recipient domain.")
@click.option("--site", metavar="PATTERN", help="Of sites that match this pattern.")
@click.option("--user", metavar="NAME", help="Of this user.")
@click.option("--all", "everything", is_flag=True, help="All.")
@pass_shell
def remove(
    shell: Shell,
    numbers: tuple[int, ...],
    domain: str | None,
    site: str | None,
    user: str | None,
    *,
    everything: bool,
) -> None:
    """Let deliveries go on."""
    if not (numbers or domain or site or user or everything):
        raise click.UsageError("Name suspensions by number, --domain, --site or --user, or say --all.")
    with shell.admin() as admin:
        wanted = [
            stop for stop in admin.suspensions() if everything or stop.id in numbers or _named(stop, domain, site, user)
        ]
        gone = admin.resume([stop.id for stop in wanted]) if wanted else 0
    if not gone:
        raise NothingMatchedError("No such suspension; `relay suspend list` shows all.")
    shell.wake()
    named = " ".join(f"--{stop.kind} {shlex.quote(stop.value)}" for stop in wanted[:_SHOWN])
    shell.record_steered("resume", gone, filters=f"{named} …" if len(wanted) > _SHOWN else named)
    click.echo(f"Removed {count(gone, 'suspension')}.")


def _target(domain: str | None, site: str | None, user: str | None) -> tuple[str, str]:
    given = [(kind, value) for kind, value in (("domain", domain), ("site", site), ("user", user)) if value]
    if len(given) != 1:
        raise click.UsageError("Say what to suspend: one of --domain, --site or --user.")
    kind, value = given[0]
    if kind != "domain":
        return kind, value
    from relay.smtp.domain import normalise

    name = normalise(value)
    if name is None:
        raise click.UsageError(f"{value!r} is no domain name: no mail would ever match it.")
    return kind, name


def _named(stop: Suspension, domain: str | None, site: str | None, user: str | None) -> bool:
    match stop.kind:
        case "domain":
            return domain is not None and stop.value == domain_name(domain)
        case "site":
            return site is not None and (stop.value == site or fnmatchcase(stop.value, site))
        case _:
            return user is not None and stop.value == user


def _row(stop: Suspension, now: float) -> tuple[object, ...]:
    left = "until removed" if stop.until is None else span(stop.until - now)
    return stop.id, stop.kind, stop.value, clock_time(stop.created_at), left, stop.reason


def _record(stop: Suspension) -> dict[str, Any]:
    return {
        "id": stop.id,
        "kind": stop.kind,
        "value": stop.value,
        "reason": stop.reason,
        "created_at": iso_time(stop.created_at),
        "until": iso_time(stop.until),
    }
