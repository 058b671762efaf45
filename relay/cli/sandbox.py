"""`relay sandbox list|show|clear`: what the sandbox's receiver got."""

import sys
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError, NothingMatchedError
from relay.cli.output import clock_time, count, emit_json, emit_listing, iso_time, json_option, octets, printable
from relay.sandbox.store import Envelope, SandboxStore


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
@click.option("--json", "as_json", is_flag=True, help="Only the envelope, as a JSON line.")
@pass_shell
def show(shell: Shell, message_id: str, *, as_json: bool) -> None:
    """Show one message: its envelope on stderr, its octets as they arrived on stdout."""
    messages = store(shell)
    envelope = messages.envelope(message_id)
    content = messages.content(message_id)
    if envelope is None or content is None:
        raise NothingMatchedError(
            f"No message {printable(message_id)} in the sandbox; `relay sandbox list` has the ids."
        )
    if as_json:
        emit_json(_record(envelope))
        return
    tls = envelope.tls or "none"
    recipients = " ".join(f"<{address}>" for address in envelope.recipients)
    click.echo(printable(f"Envelope: <{envelope.sender}> to {recipients}, TLS: {tls}"), err=True)
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


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
    return envelope.id, at, octets(envelope.size), envelope.sender or "<>", recipients, envelope.subject


def _record(envelope: Envelope) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.structs.asdict(envelope)
    record["received_at"] = iso_time(envelope.received_at)
    return record
