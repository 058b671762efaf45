"""`relay queue list|summary|show|cat`: see waiting mail. What acts on it is in `relay.cli.steer`.

Reads the queue itself, so it works with and without a running server.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import NothingMatchedError
from relay.cli.output import (
    clock_time,
    count,
    emit_json,
    emit_listing,
    emit_octets,
    emit_table,
    iso_time,
    json_option,
    octets,
    printable,
    raw_option,
    remark,
    span,
)
from relay.cli.salvage import salvage
from relay.cli.selection import chosen, filter_options
from relay.cli.steer import STEERING
from relay.cli.waiting import Waiting
from relay_queue.model import Ended, Entry, Message, Recipient, Summary
from relay_queue.states import State

NO_MAIL = "Nothing in the queue matches."


@click.group()
def queue() -> None:
    """See and steer waiting mail."""


for _command in STEERING:
    queue.add_command(_command)
queue.add_command(salvage)


@queue.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most messages shown.")
@click.option("--ids", "only_ids", is_flag=True, help="Only the ids, for `relay queue … -`.")
@json_option
@pass_shell
def list_(shell: Shell, /, *, limit: int, only_ids: bool, as_json: bool, **filters: Any) -> None:
    """List waiting messages, oldest first, with why each recipient waits."""
    now = time.time()
    selection = chosen(**filters, now=now).selection
    with shell.admin() as admin:
        found = Counted(admin.select(selection, limit))
        if only_ids:
            for entry in found:
                click.echo(printable(entry.message.id))
            if not found.count:
                raise NothingMatchedError(NO_MAIL)
            return
        waiting = Waiting(shell, admin, now)
        emit_listing(
            waiting.explained(found),
            as_json=as_json,
            headers=("ID", "AGE", "SIZE", "SENDER", "RECIPIENT", "STATE", "WHY"),
            row=lambda explained: _row(*explained, now),
            record=lambda explained: recipient_record(*explained),
            nothing=NO_MAIL,
            right=frozenset({2}),
        )
    if found.count >= limit:
        remark(f"The oldest {count(limit, 'message')}; `--limit N` shows more, `relay queue summary` counts all.")
    shell.remark_if_stopped()


class Counted:
    """Counts entries while they are read, so that a long listing is never held in memory as a whole."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield the remaining entries."""
        for entry in self._entries:
            self.count += 1
            yield entry


@queue.command()
@filter_options
@json_option
@pass_shell
def summary(shell: Shell, /, *, as_json: bool, **filters: Any) -> None:
    """Count waiting recipients by domain."""
    now = time.time()
    with shell.admin() as admin:
        counts = admin.summary(chosen(**filters, now=now).selection)
    emit_listing(
        counts,
        as_json=as_json,
        headers=("DOMAIN", "QUEUED", "ACTIVE", "HELD", "QUARANTINED", "OLDEST", "NEXT DUE"),
        row=lambda item: _summary_row(item, now),
        record=_summary_record,
        nothing=NO_MAIL,
        right=frozenset({1, 2, 3, 4}),
    )
    if not as_json:
        remark(count(sum(c.queued + c.active + c.held + c.quarantined for c in counts), "waiting recipient") + ".")
    shell.remark_if_stopped()


@queue.command()
@click.argument("message_id", metavar="ID")
@json_option
@pass_shell
def show(shell: Shell, message_id: str, *, as_json: bool) -> None:
    """Show one message: its envelope, and where each recipient stands."""
    now = time.time()
    with shell.admin() as admin:
        entry = admin.show(message_id)
        ended = sorted(admin.ended(message_id=message_id, limit=100_000), key=lambda end: end.n)
        live = [] if entry is None else list(Waiting(shell, admin, now).explained([entry]))
    if entry is None and not ended:
        raise NothingMatchedError(f"No message {printable(message_id)}, neither waiting nor in the history.")
    if as_json:
        for message, recipient, reason in live:
            emit_json(recipient_record(message, recipient, reason))
        for end in ended:
            emit_json(ended_record(end))
        return
    _show_message(entry, ended)
    rows = [(end.n, end.address, end.state.word, end.attempts, _ending(end)) for end in ended]
    for _, recipient, reason in live:
        rows.append((recipient.n, recipient.address, recipient.state.word, recipient.attempts, reason))
    emit_table(("N", "RECIPIENT", "STATE", "TRIES", "WHY"), sorted(rows), right=frozenset({0, 3}))


@queue.command()
@click.argument("message_id", metavar="ID")
@raw_option
@pass_shell
def cat(shell: Shell, message_id: str, *, raw: bool) -> None:
    """Write a waiting message to stdout, octet by octet as it would be sent."""
    with shell.admin() as admin:
        try:
            emit_octets(admin.body(message_id), raw=raw)
        except KeyError:
            raise NothingMatchedError(
                f"No waiting message {printable(message_id)}; what has ended keeps no content."
            ) from None


def _row(message: Message, recipient: Recipient, reason: str, now: float) -> tuple[str, ...]:
    return (
        message.id if recipient.n == 0 else f"{message.id}/{recipient.n}",
        span(now - message.received_at),
        octets(message.size),
        message.sender or "<>",
        recipient.address,
        recipient.state.word,
        reason,
    )


def recipient_record(message: Message, recipient: Recipient, reason: str) -> dict[str, Any]:
    """A waiting recipient with its message and why it waits, as JSON shows it."""
    return {
        "id": message.id,
        "n": recipient.n,
        "received_at": iso_time(message.received_at),
        "size": message.size,
        "sender": message.sender,
        "user": message.user,
        "origin": message.origin,
        "message_id": message.header_id,
        "stream": message.stream,
        "recipient": recipient.address,
        "domain": recipient.domain,
        "state": recipient.state.word,
        "attempts": recipient.attempts,
        "due_at": iso_time(recipient.due_at),
        "changed_at": iso_time(recipient.changed_at),
        "site": recipient.lane,
        "remote": recipient.remote,
        "reply": recipient.reply,
        "failure": recipient.failure,
        "reason": recipient.reason,
        "why": reason,
    }


def ended_record(end: Ended) -> dict[str, Any]:
    """A recipient of the history, as JSON shows it."""
    return {
        "id": end.message_id,
        "n": end.n,
        "received_at": iso_time(end.received_at),
        "size": end.size,
        "sender": end.sender,
        "user": end.user,
        "message_id": end.header_id,
        "stream": end.stream,
        "recipient": end.address,
        "domain": end.domain,
        "state": end.state.word,
        "attempts": end.attempts,
        "ended_at": iso_time(end.ended_at),
        "site": end.lane,
        "remote": end.remote,
        "reply": end.reply,
        "failure": end.failure,
        "reason": end.reason,
    }


def _summary_row(item: Summary, now: float) -> tuple[object, ...]:
    due = "" if item.next_due is None else ("now" if item.next_due <= now else f"in {span(item.next_due - now)}")
    oldest = "" if item.oldest is None else span(now - item.oldest)
    return item.domain, item.queued, item.active, item.held, item.quarantined, oldest, due


def _summary_record(item: Summary) -> dict[str, Any]:
    return {
        "domain": item.domain,
        "queued": item.queued,
        "active": item.active,
        "held": item.held,
        "quarantined": item.quarantined,
        "oldest": iso_time(item.oldest),
        "next_due": iso_time(item.next_due),
    }


def _show_message(entry: Entry | None, ended: Sequence[Ended]) -> None:
    message = entry.message if entry is not None else ended[0]
    lines = [
        ("Message", entry.message.id if entry else ended[0].message_id),
        ("Message-ID", message.header_id or "not known"),
        ("Received", clock_time(message.received_at)),
        ("Sender", message.sender or "<>"),
        ("User", message.user or "none"),
        ("Stream", message.stream),
        ("Size", octets(message.size)),
    ]
    if entry is not None:
        lines.append(("Origin", entry.message.origin))
        if entry.message.smtputf8:
            lines.append(("Needs", "SMTPUTF8"))
    for name, value in lines:
        click.echo(f"{name + ':':12}{printable(value)}")
    click.echo()


def _ending(end: Ended) -> str:
    at = clock_time(end.ended_at)
    if end.remote is None and (end.reason or end.state is State.DROPPED):
        because = f": {end.reason}" if end.reason else ""
        before = f", after: {end.reply}" if end.reply else ""
        return f"{at} by an administrator{because}{before}"
    remote = f" by {end.remote}" if end.remote else ""
    return f"{at}{remote}: {end.reply}" if end.reply else f"{at}{remote}"
