"""The command line: `relay [-c relay.toml] COMMAND`.

This module has the commands' names and one line of help for each, so that `relay --help` imports none of them. A
command's module is imported when the command is used, and slow imports (rich, cryptography, the server) are done where
they are needed. A new command needs a line in `COMMANDS` and in `docs/reference/cli.md` (a test compares them).
"""

import importlib
from typing import Any

import click

from relay import __version__
from relay.cli.exits import INTERRUPTED, explain_foreign

COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("relay.cli.init", "init", "Set up a folder: settings, certificate, DKIM keys, first user."),
    "check": ("relay.cli.check", "check", "Say what is wrong with the settings and the data folder."),
    "serve": ("relay.cli.serve", "serve", "Run the relay."),
    "reload": ("relay.cli.reload", "reload", "Have the running relay read its settings again."),
    "send": ("relay.cli.send", "send", "Submit one message."),
    "queue": ("relay.cli.queue_commands", "queue", "See and steer waiting mail."),
    "suspend": ("relay.cli.suspend", "suspend", "Stop deliveries to a domain or site, or of a user, for a while."),
    "explain-reply": ("relay.cli.explain", "explain_reply", "Say what a refusal of another server means."),
    "events": ("relay.cli.events", "events", "What happened to a message, an address, at a time."),
    "user": ("relay.cli.user", "user", "Who may submit mail."),
    "dkim": ("relay.cli.dkim", "dkim", "Signing keys and their DNS records."),
    "sandbox": ("relay.cli.sandbox", "sandbox", "What the sandbox's receiver got."),
}
"""Name: (module, attribute, one line of help), in the order of `relay --help`."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, and whose errors are sentences."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click gives it
        """Every command's name."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click gives it
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{module}.{attribute} is a click command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Errors of the environment become one line; Ctrl-C ends it without a message."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort):
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise  # click exits with the right status, without a message if the reader closed the pipe
        except Exception as error:
            sentence = explain_foreign(error)
            if sentence is None:
                raise  # a bug: show its traceback
            raise sentence from error


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Settings file. Default: $RELAY_CONFIG, ./relay.toml, /etc/relay/relay.toml.",
)
@click.version_option(__version__, prog_name="relay")
@click.pass_context
def cli(ctx: click.Context, config: str | None) -> None:
    """Relay mail: take it from applications, keep it safe, deliver it."""
    from relay.cli.context import Shell

    ctx.obj = Shell(config)


def main() -> None:
    """The console script."""
    cli(prog_name="relay")
