"""`relay check`: everything that is wrong with the settings, the data folder and the queue, at once."""

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import click

from relay.cli.context import Shell, pass_shell, user_name
from relay.cli.exits import FAILED, FailureError
from relay.cli.output import count, emit_json, json_option, printable
from relay.process.marker import MARKER, damage_of
from relay_config.problems import Problem
from relay_config.schema import Settings
from relay_queue.model import Selection
from relay_queue.states import State

SALVAGE = "stop the relay, run `relay queue salvage`, start it again"
_CHECKED_MOST = 256 << 20
"""Octets of a queue that is checked page by page, which takes about a second for so much."""


@click.command()
@json_option
@pass_shell
@click.pass_context
def check(ctx: click.Context, shell: Shell, *, as_json: bool) -> None:
    """Say what is wrong with the settings and the data folder. Exit 1 if the relay could not run."""
    from relay_config.check import check as check_settings

    path = shell.settings_path
    report = check_settings(path, os.environ, time.time())
    problems, warnings = list(report.problems), list(report.warnings)
    if report.settings is not None:
        found, doubts = _data_folder(shell, report.settings)
        problems += found
        warnings += doubts
    for severity, findings in (("problem", problems), ("warning", warnings)):
        for finding in findings:
            if as_json:
                emit_json(
                    {
                        "severity": severity,
                        "file": finding.file,
                        "key": finding.key,
                        "found": finding.found,
                        "remedy": finding.remedy,
                    }
                )
            else:
                click.echo(f"{'warning: ' if severity == 'warning' else ''}{printable(str(finding))}")
    if not as_json:
        name = shell.settings_name
        what = f"{name}: {count(len(problems), 'problem')}, {count(len(warnings), 'warning')}."
        click.echo(what if problems or warnings else f"{name}: all is well.")
    ctx.exit(FAILED if problems else 0)


def _data_folder(shell: Shell, settings: Settings) -> tuple[list[Problem], list[Problem]]:
    """(problems, warnings) of the data folder and what is in it. One that is not there yet is made at the start."""
    folder = Path(settings.data_dir)
    if not folder.is_dir():
        return [], []
    problems = list(_ownership(folder, settings))
    if problems:
        return problems, []
    try:
        return _contents(shell, settings)
    except FailureError as failure:
        return [Problem(str(folder), "", failure.message, failure.remedy or "mend it")], []


def _ownership(folder: Path, settings: Settings) -> Iterator[Problem]:
    """What `relay_config.check` leaves open: whether the folder is the relay's alone."""
    status = folder.lstat()
    if status.st_mode & stat.S_IWGRP:
        yield Problem(str(folder), "", "its group may change it", f"run: chmod 0700 {folder}")
    owner = user_name(status.st_uid)
    if settings.user is not None and owner != settings.user:
        remedy = f"run: chown -R {settings.user}: {folder}"
        yield Problem(str(folder), "", f"belongs to {owner}, and the relay runs as {settings.user}", remedy)


def _stopped_writers(data_dir: Path) -> Iterator[Problem]:
    """Workers that left word that they can write to the queue no more (`relay.process.housekeeping`)."""
    for marker in sorted((data_dir / "run").glob(f"{MARKER}*")):
        try:
            reason = marker.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            continue  # its worker began anew meanwhile
        what = f"worker {marker.name.removeprefix(MARKER)} stopped writing to the queue: {reason}"
        yield Problem(str(data_dir), "", what, "see to the disk (`dmesg`), then restart the relay")


def _contents(shell: Shell, settings: Settings) -> tuple[list[Problem], list[Problem]]:
    from relay.submission.users import FILE, UserFileError, read_users
    from relay_queue.protocol import QueueDamagedError, QueueError

    data_dir = shell.data_dir
    problems: list[Problem] = []
    warnings: list[Problem] = []
    damaged = 0
    if (found := damage_of(data_dir)) is not None:
        problems.append(Problem(str(data_dir), "", f"the queue is damaged: {found}", SALVAGE))
    elif (data_dir / "queue.db").exists():
        try:
            with shell.admin() as admin:
                faults = admin.integrity(_CHECKED_MOST)
                problems += [Problem(str(data_dir / "queue.db"), "", f"damaged: {fault}", SALVAGE) for fault in faults]
                damaged = sum(item.quarantined for item in admin.summary(Selection(states=(State.QUARANTINED,))))
        except QueueDamagedError as error:
            problems.append(Problem(str(data_dir / "queue.db"), "", str(error), SALVAGE))
        except QueueError as error:
            problems.append(Problem(str(data_dir / "queue.db"), "", str(error), "restore, salvage or move it away"))
        if damaged:
            remedy = "look with `relay queue list --state quarantined`, then release, fail or drop them"
            warnings.append(Problem(str(data_dir), "", f"{count(damaged, 'damaged recipient')} set aside", remedy))
    stopped = list(_stopped_writers(data_dir))
    if stopped:
        # Left by a server that runs no more it is history: the next start begins anew.
        (problems if shell.running() else warnings).extend(stopped)
    try:
        if any(listener.auth == "required" for listener in settings.listener) and not read_users(data_dir / FILE):
            remedy = "nobody can log in: add one with `relay user add NAME`"
            warnings.append(Problem(str(data_dir), "", "no users", remedy))
    except UserFileError as error:
        what, _, remedy = str(error).removeprefix(f"{data_dir / FILE}: ").partition("; ")
        problems.append(Problem(str(data_dir / FILE), "", what, remedy))
    return problems, warnings
