"""`relay serve`: run the relay until it is told to stop."""

import os

import click

from relay.cli.context import Shell, pass_shell


@click.command()
@pass_shell
def serve(shell: Shell) -> None:
    """Run the relay. SIGTERM stops it.

    SIGHUP makes it read its settings and open its log files again (`relay reload` sends it), SIGUSR1 only open its log
    files again.
    """
    from relay.cli.greeting import greet
    from relay.process.serve import serve as run

    path = shell.settings_path
    raise SystemExit(run(path, os.environ, lambda settings: greet(settings, path)))
