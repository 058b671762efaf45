"""`relay serve`: run the relay until it is told to stop."""

import os
from pathlib import Path

import click

from relay.cli.context import Shell, pass_shell


@click.command()
@pass_shell
def serve(shell: Shell) -> None:
    """Run the relay. SIGTERM stops it.

    SIGHUP makes it read its settings and open its log files again (`relay reload` sends it), SIGUSR1 only open its log
    files again.
    """
    from relay.cli.first_steps import FIRST_MESSAGE
    from relay.process.serve import serve as run

    path = shell.settings_path
    if shell.settings.sandbox.receiver is not None:
        data_dir = Path(shell.settings.data_dir)
        with shell.as_owner(data_dir / FIRST_MESSAGE):
            greet(data_dir)
    raise SystemExit(run(path, os.environ))


def greet(data_dir: Path) -> None:
    """Show how to send a first message, for whoever just started a sandbox."""
    from relay.cli.first_steps import FIRST_MESSAGE

    try:
        click.echo((data_dir / FIRST_MESSAGE).read_text())
    except (FileNotFoundError, PermissionError):  # a sandbox made by hand
        click.echo("Sandbox: all mail ends in the receiver built into the relay; `relay sandbox list` shows it.")
