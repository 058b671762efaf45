"""`relay queue salvage`: a new queue from what can be read of a damaged one."""

import time
from collections.abc import Sequence

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError
from relay.cli.output import count, emit_json, json_option, printable, remark

_SHOWN = 20
"""Ids of one kind that are shown; `--json` has all."""


@click.command()
@json_option
@pass_shell
def salvage(shell: Shell, *, as_json: bool) -> None:
    """Replace a damaged queue by a new one with all mail that can be read.

    The damaged queue is kept beside it. The relay must be stopped.
    """
    from relay.process.lock import AlreadyRunningError, acquire
    from relay.process.marker import forget_damage
    from relay_queue.sqlite import salvage_queue

    data_dir = shell.data_dir
    try:
        lock = acquire(data_dir)
    except AlreadyRunningError as error:
        raise FailureError(f"{error}.", "Stop the relay first.") from error
    with lock:
        ready = salvage_queue(data_dir, time.time())
        forget_damage(data_dir)
    done = ready.salvaged
    shell.record_steered("queue salvage", done.recipients)
    kept = data_dir / ready.kept
    if as_json:
        emit_json(
            {
                "messages": done.messages,
                "recipients": done.recipients,
                "history": done.history,
                "suspensions": done.suspensions,
                "lost_messages": done.lost_envelope,
                "lost_recipients": done.lost_recipients,
                "lost_content": done.lost_content,
                "doubtful_recipients": done.doubtful,
                "lost_rows": done.lost_rows,
                "kept": str(kept),
            }
        )
        return
    click.echo(
        f"The new queue has {count(done.messages, 'message')} for {count(done.recipients, 'recipient')}, "
        f"{done.history:,} of the history and {count(done.suspensions, 'suspension')}."
    )
    _list("Lost, as their sender or recipients cannot be read", done.lost_envelope)
    _list("Lost recipients of messages that are there", done.lost_recipients)
    _list("Quarantined, as their content cannot be read (`relay queue fail` tells the senders)", done.lost_content)
    _list("Quarantined, as their address or domain is damaged", done.doubtful)
    if done.lost_rows:
        click.echo(f"{count(done.lost_rows, 'damaged row')} could not be read.")
    elif done.whole:
        click.echo("Everything could be read.")
    remark(f"The queue as it was is in {printable(str(kept))}; remove it when you no longer need it.")
    remark("Start the relay now.")


def _list(what: str, ids: Sequence[str]) -> None:
    if ids:
        more = f" and {len(ids) - _SHOWN:,} more" if len(ids) > _SHOWN else ""
        click.echo(f"{what}: {printable(' '.join(ids[:_SHOWN]))}{more}")
