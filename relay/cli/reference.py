"""Writes `docs/reference/cli.md` from the commands themselves: `python -m relay.cli.reference > docs/reference/cli.md`.

A test compares the page with what this writes, so that no command or option is missing or out of date.
"""

import sys
from collections.abc import Iterator

import click

from relay.cli import cli
from relay.cli.selection import FILTERS

_HEAD = """\
# Command line

Written by `python -m relay.cli.reference`; change the commands' own help instead of this page.

    relay [-c FILE] COMMAND

Settings come from `-c FILE`, else from the file that `$RELAY_CONFIG` names, else from `./relay.toml`, else from
`/etc/relay/relay.toml`, else from `RELAY_…` variables alone ([settings](settings.md#environment)). `-h` or `--help`
explains any command.

Commands that read or change the queue, users or keys work on the data folder itself, whether or not the relay runs; a
running relay notices at once. They need to run as the folder's owner or as root, who becomes the owner first.

Listings are tables for people; in a pipe they are plain aligned text. With `--json` each line is a JSON object; times
are RFC 3339 in UTC (events: seconds since 1970, as they are stored). Remarks go to standard error.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed; a sentence on standard error says why |
| 2 | wrong usage |
| 3 | nothing matched |
| 130 | ended by Ctrl-C |
"""

_FILTERS_HEAD = """\
## Filters

The `queue` commands take ids, `-` and these filters; filters combine, and a filter that may be repeated matches any of
its values. `ID/N` is one recipient of a message, `-` stands for ids on standard input.

| option | meaning |
|---|---|
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, *_options_of(cli)]
    parts += _commands(cli, "relay")
    parts.append("\n" + _FILTERS_HEAD)
    parts += [_row(option) for option in _filters()]
    return "".join(parts)


def _commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None, "a listed command exists"
        full = f"{path} {name}"
        if isinstance(command, click.Group):
            yield f"\n## {full}\n\n{_help(command)}\n"
            yield from _commands(command, full)
            continue
        yield f"\n### {full}\n\n    {_usage(command, full)}\n\n{_help(command)}\n"
        yield from _options_of(command)


def _usage(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path)
    return " ".join([path, *command.collect_usage_pieces(context)])


def _help(command: click.Command) -> str:
    return " ".join((command.help or "").split())


def _options_of(command: click.Command) -> Iterator[str]:
    # Not `get_params`: it has click remember a help option without the short name that the real command line has.
    options = [one for one in command.params if isinstance(one, click.Option)]
    names = {one.opts[0] for one in options}
    filtered = set(FILTERS) <= names
    rows = [_row(one) for one in options if "--help" not in one.opts and not (filtered and one.opts[0] in FILTERS)]
    if filtered:
        yield "\nWith the [filters](#filters)"
        yield " and:\n" if rows else ".\n"
    if rows:
        yield "\n| option | meaning |\n|---|---|\n"
        yield from rows


def _filters() -> list[click.Option]:
    from relay.cli.queue_commands import summary

    return [one for one in summary.params if isinstance(one, click.Option) and one.opts[0] in FILTERS]


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in option.opts)
    if not option.is_flag:
        names += f" {_value(option)}"
    text = " ".join((option.help or "").split())
    if option.show_default and option.default is not None:
        text += f" Default: {option.default}."
    cell = f"| {names} | {text.strip()} |\n"
    return cell.replace("ADDRESS|DOMAIN", "ADDRESS or DOMAIN")


def _value(option: click.Option) -> str:
    if option.metavar is not None:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return ", ".join(f"`{choice}`" for choice in option.type.choices)
    return "N" if isinstance(option.type, click.IntRange) else option.type.name.upper()


if __name__ == "__main__":
    sys.stdout.write(page())
