"""`relay reload`: have the running relay read its settings again, or only open its log files again."""

import os
import signal
import time
from pathlib import Path

import click

from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FailureError
from relay.cli.output import remark


@click.command()
@click.option("--logs", "logs_only", is_flag=True, help="Only open the log files again, after they were moved away.")
@pass_shell
def reload(shell: Shell, *, logs_only: bool) -> None:
    """Check the settings, then have the running relay read them and open its log files again."""
    from relay.process.lock import holder

    data_dir = _data_dir(shell) if logs_only else _checked_data_dir(shell)
    pid = holder(data_dir)
    if pid is None and logs_only:
        return  # nothing runs that would have a log file open
    if not pid:
        raise FailureError("The relay is not running.", "Start it with `relay serve`.")
    try:
        os.kill(pid, signal.SIGUSR1 if logs_only else signal.SIGHUP)
    except ProcessLookupError:
        raise FailureError(f"Process {pid}, which has {data_dir}, is not on this machine or has ended.") from None
    if not logs_only:
        remark(f"Process {pid} reads its settings; `relay events --kind process --since 1m` shows what came of it.")


def _checked_data_dir(shell: Shell) -> Path:
    """Where the relay runs; raises `SettingsError` with all that is wrong before the relay is asked to do anything."""
    from relay_config.check import load_checked

    return Path(load_checked(shell.settings_path, os.environ, time.time()).data_dir)


def _data_dir(shell: Shell) -> Path:
    """Return the data folder even if other settings are invalid, because log rotation must still work."""
    from relay_config.load import read
    from relay_config.problems import SettingsError
    from relay_config.schema import Settings

    reading = read(shell.settings_path, os.environ)
    if reading.settings is not None:
        return Path(reading.settings.data_dir)
    if not reading.leaves:
        raise SettingsError(reading.findings.problems)
    given = (leaf.value for leaf in reading.leaves if leaf.path == ("data_dir",))
    return Path(next(given, Settings(hostname="").data_dir))
