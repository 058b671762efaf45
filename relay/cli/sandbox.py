"""`relay sandbox list|show|clear`: what the sandbox's receiver got."""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError, NothingMatchedError
from relay.cli.output import (
    clock_time,
    count,
    emit_json,
    emit_listing,
    emit_octets,
    iso_time,
    json_option,
    octets,
    printable,
    raw_option,
    remark,
)
from relay.message.encoded_words import decoded
from relay.sandbox.store import Envelope, SandboxStore

_SUBJECT_SHOWN = 200


@click.group()
def sandbox() -> None:
    """See what the sandbox's receiver got."""


@sandbox.command("list")
@click.option("--recipient", metavar="ADDRESS", help="Only messages to this address.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Most messages shown.")
@json_option
@pass_shell
def list_(shell: Shell, recipient: str | None, limit: int, *, as_json: bool) -> None:
    """List what arrived, newest first."""
    emit_listing(
        _matching(store(shell), recipient, limit),
        as_json=as_json,
        headers=("ID", "RECEIVED", "SIZE", "SENDER", "RECIPIENTS", "SUBJECT"),
        row=_row,
        record=_record,
        nothing="Nothing has arrived in the sandbox" + (f" for {printable(recipient)}." if recipient else "."),
        right=frozenset({2}),
    )


@sandbox.command()
@click.argument("message_id", metavar="ID")
@raw_option
@click.option("--json", "as_json", is_flag=True, help="Only the envelope, as a JSON line.")
@pass_shell
def show(shell: Shell, message_id: str, *, raw: bool, as_json: bool) -> None:
    """Show one message: its envelope on stderr, its octets as they arrived on stdout.

    ID is the sandbox's own (`relay sandbox list`) or the queue id, which the relay answers to the message.
    """
    messages = store(shell)
    envelope, others = _found(messages, message_id)
    content = messages.content(envelope.id)
    if content is None:
        raise NothingMatchedError(f"The message {envelope.id} was cleared just now.")
    if others:
        remark(f"It arrived {len(others) + 1} times; this is the newest. The others: {' '.join(others)}")
    if as_json:
        emit_json(_record(envelope))
        return
    tls = envelope.tls or "none"
    recipients = " ".join(f"<{address}>" for address in envelope.recipients)
    remark(f"Envelope: <{envelope.sender}> to {recipients}, TLS: {tls}")
    emit_octets([content], raw=raw)


def _found(messages: SandboxStore, message_id: str) -> tuple[Envelope, list[str]]:
    """Return the message of an id (the newest if a queue id has several), and the ids of the others."""
    envelope = messages.envelope(message_id)
    if envelope is not None:
        return envelope, []
    found = messages.of_queue_id(message_id.partition("/")[0])
    if not found:
        raise NothingMatchedError(
            f"No message {printable(message_id)} in the sandbox.",
            "`relay sandbox list` has the ids; `relay queue list` shows what is still on its way.",
        )
    return found[0], [other.id for other in found[1:]]


@sandbox.command()
@pass_shell
def clear(shell: Shell) -> None:
    """Forget everything that arrived."""
    gone = store(shell).clear()
    if not gone:
        raise NothingMatchedError("The sandbox was empty.")
    click.echo(f"Forgot {count(gone, 'message')}.")


def store(shell: Shell) -> SandboxStore:
    """The sandbox's messages, where the settings have a sandbox."""
    if shell.settings.sandbox.receiver is None:
        raise FailureError(
            f"{shell.settings_name} has no sandbox: mail goes to its real recipients.",
            "A sandbox is made with `relay init --sandbox DIR`.",
        )
    return SandboxStore(shell.data_dir / "sandbox")


def _matching(messages: SandboxStore, recipient: str | None, limit: int) -> Iterator[Envelope]:
    shown = 0
    for envelope in messages.envelopes():
        if recipient is None or recipient.lower() in (address.lower() for address in envelope.recipients):
            yield envelope
            shown += 1
            if shown >= limit:
                return


def _row(envelope: Envelope) -> tuple[str, ...]:
    first, *more = envelope.recipients
    recipients = f"{first} and {count(len(more), 'other')}" if more else first
    at = clock_time(envelope.received_at)
    subject = decoded(envelope.subject)
    if len(subject) > _SUBJECT_SHOWN:
        subject = subject[:_SUBJECT_SHOWN] + "…"
    return envelope.id, at, octets(envelope.size), envelope.sender or "<>", recipients, subject


def _record(envelope: Envelope) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.structs.asdict(envelope)
    record["received_at"] = iso_time(envelope.received_at)
    record["subject"] = decoded(envelope.subject)
    return record
