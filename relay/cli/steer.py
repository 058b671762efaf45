"""`relay queue flush|hold|release|drop|fail`: act on selected recipients, then notify a running server.

A recipient that is claimed by a worker gets a pending action, which the worker applies when the attempt ends; the
output gives the number of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError, NothingMatchedError
from relay.cli.output import count, emit_json, emit_table, json_option, remark
from relay.cli.selection import Chosen, chosen, described, filter_options
from relay.events.recorder import Recorder
from relay_queue.model import Entry, Mark, Message, Put, Steered
from relay_queue.protocol import Action, Admin, BodyDamagedError
from relay_queue.states import State


@dataclass(slots=True, frozen=True)
class Verb:
    """One command."""

    action: Action
    done: str
    """`Held`, for "Held 3 recipients"."""
    help: str
    reasoned: bool = False
    """Whether it takes a `--reason`."""
    deletes: bool = False


VERBS = (
    Verb(Action.FLUSH, "Flushed", "Try waiting mail now (what is held stays held)."),
    Verb(Action.HOLD, "Held", "Set mail aside until it is released.", reasoned=True),
    Verb(Action.RELEASE, "Released", "Let held or quarantined mail go on, now."),
    Verb(Action.DROP, "Dropped", "Delete mail without telling anyone.", reasoned=True, deletes=True),
    Verb(Action.FAIL, "Failed", "Give mail up and send its sender a bounce.", reasoned=True, deletes=True),
)
_NO_REASON = "no reason was given"
"""Text in the bounce if an administrator fails mail without a reason."""


def _command(verb: Verb) -> click.Command:
    @click.command(verb.action.value, help=verb.help)
    @filter_options
    @click.option("--all", "everything", is_flag=True, help="All waiting mail.")
    @click.option("--limit", type=click.IntRange(1), help="At most so many recipients, oldest first.")
    @click.option("--dry-run", is_flag=True, help="Only say what would be touched.")
    @json_option
    @pass_shell
    def command(
        shell: Shell, /, *, everything: bool, limit: int | None, dry_run: bool, as_json: bool, **given: Any
    ) -> None:
        yes, reason = given.pop("yes", False), given.pop("reason", None) or None
        now = time.time()
        target = chosen(**given, now=now)
        if target.everything and not everything:
            raise click.UsageError("Name ids, give filters, or say --all for all waiting mail.")
        if everything and not target.everything:
            raise click.UsageError("--all means all waiting mail: give it without ids and filters.")
        bounces: list[tuple[Message, Put]] = []
        with shell.admin() as admin:
            if verb.deletes and everything and not (yes or dry_run):
                _confirm(verb, admin, target)
            steered = admin.steer(
                verb.action,
                target.selection,
                now=now,
                reason=reason or (_NO_REASON if verb.action is Action.FAIL else None),
                notice=_bounces(shell, admin, now, bounces) if verb.action is Action.FAIL and not dry_run else None,
                dry_run=dry_run,
                limit=limit,
            )
        if not dry_run and steered.recipients:
            shell.wake()
            filters = described(target.selection, now, everything=everything, limit=limit)
            with shell.recorder() as recorder:
                recorder.steered(verb.action.value, steered.recipients, shell.who, filters=filters, reason=reason)
                _record(recorder, verb.action, steered, bounces, now)
        _report(verb, steered, dry_run=dry_run, as_json=as_json)

    if verb.reasoned:
        command = click.option("--reason", metavar="TEXT", help="Recorded with the mail, and shown with it.")(command)
    if verb.deletes:
        command = click.option("--yes", is_flag=True, help="Do not ask, even with --all.")(command)
    return command


STEERING = tuple(_command(verb) for verb in VERBS)


def _confirm(verb: Verb, admin: Admin, target: Chosen) -> None:
    total = sum(c.queued + c.active + c.held + c.quarantined for c in admin.summary(target.selection))
    if not total:
        raise NothingMatchedError("The queue is empty.")
    try:
        sure = click.confirm(f"{verb.action.value.capitalize()} all {count(total, 'recipient')}?", err=True)
    except click.Abort:
        sure = False
    if not sure:
        raise FailureError("Nothing was changed.", "Answer y, or say --yes where nobody can answer.")


def _bounces(shell: Shell, admin: Admin, now: float, built: list[tuple[Message, Put]]) -> Callable[[Entry], Put | None]:
    """Return a function that builds the bounce of a failed message and adds both to `built`."""
    from relay.cli.signing import key_ring
    from relay.message.dsn import DsnFactory
    from relay.message.dsn.wanted import FULL_MAX

    factory = DsnFactory(shell.settings, key_ring(shell.settings))

    def original(message_id: str) -> bytes:
        """Return the message, or its beginning if it is too large to be returned whole; nothing if it is damaged."""
        octets = b""
        try:
            for block in admin.body(message_id):
                octets += block
                if len(octets) > FULL_MAX:
                    break
        except BodyDamagedError:
            return b""  # the sender is notified all the same
        return octets

    def build(entry: Entry) -> Put | None:
        bounce = factory.build("failure", entry, original(entry.message.id), now)
        if bounce is not None:
            built.append((entry.message, bounce))
        return bounce

    return build


_ENDS = {Action.HOLD: State.HELD, Action.DROP: State.DROPPED, Action.FAIL: State.FAILED}
"""The final state of a recipient, for the actions that have an event."""


def _record(
    recorder: Recorder, action: Action, steered: Steered, bounces: list[tuple[Message, Put]], now: float
) -> None:
    """Record the action in the history of each message (only the first if there are many)."""
    state = _ENDS.get(action)
    for entry in steered.entries if state is not None else ():
        assert state is not None
        for recipient in entry.recipients:
            mark = Mark(
                message_id=recipient.message_id,
                n=recipient.n,
                owner=-1,
                state=state,
                at=now,
                attempts=recipient.attempts,
                lane=recipient.lane,
            )
            recorder.outcome(entry.message, recipient, mark)
    for message, bounce in bounces:
        recorder.notified("failure", message, bounce.entry.message.id)
        recorder.accepted(bounce.entry, None)


def _report(verb: Verb, steered: Steered, *, dry_run: bool, as_json: bool) -> None:
    if not steered.recipients:
        raise NothingMatchedError("Nothing in the queue matches; nothing was changed.")
    if as_json:
        emit_json(
            {
                "action": verb.action.value,
                "dry_run": dry_run,
                "recipients": steered.recipients,
                "messages": steered.messages,
                "requested": steered.requested,
            }
        )
        return
    if dry_run:
        rows = [
            (f"{e.message.id}/{r.n}", e.message.sender or "<>", r.address, r.state.word)
            for e in steered.entries
            for r in e.recipients
        ]
        emit_table(("ID", "SENDER", "RECIPIENT", "STATE"), rows)
        if len(rows) < steered.recipients:
            remark(f"… and {steered.recipients - len(rows):,} more.")
    what = f"{count(steered.recipients, 'recipient')} of {count(steered.messages, 'message')}"
    click.echo(f"Would {verb.action.value}: {what}." if dry_run else f"{verb.done} {what}.")
    if steered.requested:
        remark(
            f"{count(steered.requested, 'recipient')} being sent right now: the relay carries it out after the attempt."
        )
