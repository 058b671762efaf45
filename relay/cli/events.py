"""`relay events`: what happened, read back from the event store."""

import time

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import NothingMatchedError
from relay.cli.output import count, emit_json, json_option, remark
from relay.cli.selection import address_name
from relay.cli.words import DURATION
from relay.events.catalog import KINDS
from relay.events.format import line_of
from relay.events.read import Query, StoredEvent, follow, last


@click.command()
@click.option("--id", "message_id", metavar="ID", help="About this message, or the notifications about it.")
@click.option("--message-id", "header_id", metavar="ID", help="About the message with this Message-ID.")
@click.option("--address", metavar="ADDRESS", help="From or to this address.")
@click.option("--since", type=DURATION, metavar="TIME", help="Not longer ago than this, e.g. 1h.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), metavar="NAME", help="Only these.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="At most so many, the newest.")
@click.option("--follow", "following", is_flag=True, help="Show what happens from now on, until Ctrl-C.")
@json_option
@pass_shell
def events(
    shell: Shell,
    message_id: str | None,
    header_id: str | None,
    address: str | None,
    since: float | None,
    kinds: tuple[str, ...],
    limit: int,
    *,
    following: bool,
    as_json: bool,
) -> None:
    """Show what happened, oldest first: a line for each event, or JSON as it is stored."""
    query = Query(
        message_id=None if message_id is None else message_id.partition("/")[0],
        header_id=header_id,
        address=None if address is None else address_name(address),
        since=None if since is None else time.time() - since,
        kinds=kinds,
    )
    if following:
        if since is not None:
            raise click.UsageError("--follow shows what happens from now on; --since looks back.")
        for event in follow(shell.data_dir, query):
            _show(event, as_json=as_json)
        return
    found = last(shell.data_dir, limit + 1, query)
    if not found:
        raise NothingMatchedError("No such event.")
    if len(found) > limit:
        remark(f"The newest {count(limit, 'event')}; `--limit N` shows more.")
    for event in found[-limit:]:
        _show(event, as_json=as_json)


def _show(event: StoredEvent, *, as_json: bool) -> None:
    if as_json:
        emit_json(event)
    else:
        click.echo(line_of(event))
