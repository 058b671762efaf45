"""Selects the recipients of a queue command: ids, `-` (ids on stdin), filters, `--all`; the same for every command.

Commands that change the queue need an explicit selection. A missing selection is a usage error, never "everything", and
an empty stdin selects nothing, so that `relay queue list … --ids | relay queue drop -` is safe if the list is empty.
"""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from relay.cli.exits import NothingMatchedError
from relay.cli.words import DURATION, SIZE
from relay_queue.ids import is_id
from relay_queue.model import Selection
from relay_queue.states import LIVE, State

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST_N = 9
"""Maximum number of digits of a recipient's number."""


@dataclass(slots=True, frozen=True)
class Chosen:
    """The selection on the command line."""

    selection: Selection
    everything: bool
    """True if there is no id and no filter; then `--all` is required to act."""


_FILTERS = (
    click.option("--id", "option_ids", multiple=True, metavar="ID", help="A message, or ID/N: one of its recipients."),
    click.option("--sender", metavar="ADDRESS", help="Sent by this address; '' for bounces."),
    click.option("--sender-domain", metavar="DOMAIN", help="Sent from this domain."),
    click.option("--recipient", metavar="ADDRESS", help="To this address."),
    click.option("--domain", metavar="DOMAIN", help="To this domain."),
    click.option("--site", metavar="PATTERN", help="Last tried at this site or smarthost (* and ? as wildcards)."),
    click.option(
        "--state",
        "states",
        multiple=True,
        type=click.Choice([state.word for state in sorted(LIVE)]),
        help="In this state; may be repeated.",
    ),
    click.option("--user", metavar="NAME", help="Submitted by this user."),
    click.option("--older-than", type=DURATION, metavar="TIME", help="Received longer ago, e.g. 2h."),
    click.option("--larger-than", type=SIZE, metavar="SIZE", help="Larger messages, e.g. 1MiB."),
    click.option("--message-id", metavar="ID", help="With this Message-ID, with or without its angle brackets."),
    click.option("--error", metavar="TEXT", help="The last answer, or the reason of a hold, contains this text."),
)

FILTERS = (
    "--id",
    "--sender",
    "--sender-domain",
    "--recipient",
    "--domain",
    "--site",
    "--state",
    "--user",
    "--older-than",
    "--larger-than",
    "--error",
    "--message-id",
)
"""The options' names."""


def filter_options(command: F) -> F:
    """Add the positional ids and all filters to a command; it gets them as keyword arguments for `chosen`."""
    for option in reversed(_FILTERS):
        command = option(command)
    return click.argument("ids", nargs=-1, metavar="[ID]... [-]")(command)


def chosen(
    *,
    ids: tuple[str, ...],
    option_ids: tuple[str, ...],
    states: tuple[str, ...],
    older_than: float | None,
    larger_than: int | None,
    now: float | None = None,
    **texts: str | None,
) -> Chosen:
    """The selection behind the options. `-` among the ids reads more from stdin; none there: exit 3."""
    names = _expand((*ids, *option_ids))
    wanted = tuple(State[word.upper()] for word in states)
    if now is None:
        now = time.time()
    selection = Selection(
        ids=names,
        sender=_address(texts.get("sender")),
        sender_domain=_domain(texts.get("sender_domain")),
        recipient=_address(texts.get("recipient")),
        domain=_domain(texts.get("domain")),
        site=texts.get("site"),
        states=wanted,
        user=texts.get("user"),
        received_before=None if older_than is None else now - older_than,
        larger_than=larger_than,
        error=texts.get("error"),
        header_id=texts.get("message_id"),
    )
    return Chosen(selection, selection == Selection())


_SHOWN = 10
"""Maximum number of ids in a description."""


def described(selection: Selection, now: float, *, everything: bool, limit: int | None) -> str:
    """The options that make this selection, for the record of what was done: `--domain x.test --state held`.

    Of the ids at most 10 are named, those from standard input as well.
    """
    words = list(selection.ids[:_SHOWN])
    if len(selection.ids) > _SHOWN:
        words.append(f"… ({len(selection.ids)} ids)")
    before = selection.received_before
    given = [
        ("--sender", selection.sender),
        ("--sender-domain", selection.sender_domain),
        ("--recipient", selection.recipient),
        ("--domain", selection.domain),
        ("--site", selection.site),
        *(("--state", state.word) for state in selection.states),
        ("--user", selection.user),
        ("--older-than", None if before is None else f"{now - before:.0f}s"),
        ("--larger-than", None if selection.larger_than is None else f"{selection.larger_than}B"),
        ("--error", selection.error),
        ("--limit", None if limit is None else str(limit)),
    ]
    words += [f"{name} {shlex.quote(value)}" for name, value in given if value is not None]
    return " ".join([*words, "--all"] if everything else words)


def _expand(given: tuple[str, ...]) -> tuple[str, ...]:
    """Replace `-` by the ids on stdin, and check all ids, so that a mistyped id is an error and not an empty match."""
    names: list[str] = []
    for name in given:
        if name == "-":
            names.extend(sys.stdin.read().split())
        else:
            names.append(name)
    if given and not names:
        raise NothingMatchedError("No ids on stdin: nothing to do.")
    for name in names:
        if not _is_name(name):
            raise click.UsageError(f"{name!r} is no queue id: those are 26 characters, or ID/N for one recipient.")
    return tuple(dict.fromkeys(names))


def _is_name(name: str) -> bool:
    message, slash, n = name.partition("/")
    return is_id(message) and (not slash or (n.isascii() and n.isdecimal() and len(n) <= _LONGEST_N))


def domain_name(text: str) -> str:
    """A domain in the one form that the relay knows. Raises a usage error for what can be none outside ASCII."""
    from relay.smtp.domain import normalise

    name = normalise(text) or (text.lower() if text.isascii() else None)
    if name is None:
        raise click.UsageError(f"{text!r} is no domain name.")
    return name


def address_name(text: str) -> str:
    """An address as the queue stores it: quoted only where it must be, outside ASCII with its domain in its one form.

    Text that is not a valid address is searched for unchanged.
    """
    from relay.smtp.address import Path, parse_address

    path = parse_address(text)
    if isinstance(path, Path):
        return path.address
    local, at, domain = text.rpartition("@")
    return text if domain.isascii() else f"{local}{at}{domain_name(domain)}"


def _address(text: str | None) -> str | None:
    return None if text is None else address_name(text)


def _domain(text: str | None) -> str | None:
    return None if text is None else domain_name(text)
