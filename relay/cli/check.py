"""`relay check`: reports all problems of the settings, the data folder and the queue at once."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from relay.cli import check_start
from relay.cli.context import Shell, pass_shell
from relay.cli.exits import FAILED, FailureError
from relay.cli.output import count, emit_json, json_option, printable
from relay.process.failures import DAMAGE_REMEDY, explain
from relay.process.marker import MARKER, damage_of
from relay_config.problems import Problem
from relay_config.schema import Settings
from relay_queue.model import Selection
from relay_queue.protocol import QueueError
from relay_queue.sqlite.connect import FILE_NAME
from relay_queue.states import State

_EXAMINED_SECONDS = 10.0
"""Seconds for examining the queue, enough for some gigabytes."""


@dataclass(slots=True)
class Found:
    """The findings of a check, by severity."""

    problems: list[Problem] = field(default_factory=list)
    """Findings that prevent the relay from starting or from accepting mail."""
    warnings: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    """Information about things that are in order; without a remedy."""


@click.command()
@json_option
@pass_shell
@click.pass_context
def check(ctx: click.Context, shell: Shell, *, as_json: bool) -> None:
    """Say what would keep the relay from running: settings, files, ports, the data folder and the queue.

    Exit 1 if anything would. Checks as the user who calls it; as root, also with the rights of the relay's user.
    """
    from relay_config.check import check as check_settings

    report = check_settings(shell.settings_path, os.environ, time.time())
    found = Found(list(report.problems), list(report.warnings))
    if report.settings is not None:
        _world(shell, report.settings, report.at, found)
    for severity, findings in (("problem", found.problems), ("warning", found.warnings), ("note", found.notes)):
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
                text = str(finding) if finding.remedy else f"{finding.file}: {finding.found}"
                click.echo(f"{'' if severity == 'problem' else severity + ': '}{printable(text)}")
    if not as_json:
        name = shell.settings_name
        what = f"{name}: {count(len(found.problems), 'problem')}, {count(len(found.warnings), 'warning')}."
        click.echo(printable(what if found.problems or found.warnings else f"{name}: all is well."))
    ctx.exit(FAILED if found.problems else 0)


def _world(shell: Shell, settings: Settings, at: check_start.Place, found: Found) -> None:
    """Check what the settings refer to. Ports come first, because root drops its rights for the data folder."""
    folder = Path(settings.data_dir)
    server = check_start.running(folder)
    if server is not None:
        named = f" (process {server})" if server else ""
        found.notes.append(Problem(str(folder), "", f"a relay is running on this data folder{named}", ""))
    found.problems += check_start.ports(settings, at, server)
    if not folder.is_dir():
        found.problems += check_start.new_folder(settings)
        return
    problems = [*check_start.ownership(folder, settings), *check_start.medium(folder)]
    if not problems:
        try:
            data_dir = shell.data_dir  # from here on, the process runs as its owner
        except FailureError as failure:
            what = failure.message.removeprefix(f"{folder}: ").removesuffix(".")
            problems.append(Problem(str(folder), "", what, failure.remedy or "see to its rights"))
        else:
            found.problems += [*check_start.space(settings, data_dir), *check_start.log(settings, at)]
            problems += check_start.entries(data_dir)
            if not problems:
                _contents(shell, settings, found)
    found.problems += problems


def _stopped_writers(data_dir: Path) -> Iterator[Problem]:
    """Find workers that reported that they can no longer write to the queue (`relay.process.housekeeping`)."""
    for marker in sorted((data_dir / "run").glob(f"{MARKER}*")):
        try:
            reason = marker.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            continue  # the worker was restarted in the meantime
        what = f"worker {marker.name.removeprefix(MARKER)} stopped writing to the queue: {reason}"
        yield Problem(str(data_dir), "", what, "see to the disk (`dmesg`), then restart the relay")


def _contents(shell: Shell, settings: Settings, found: Found) -> None:
    from relay.submission.users import FILE, UserFileError, read_users

    data_dir = shell.data_dir
    if (damage := damage_of(data_dir)) is not None:
        found.problems.append(Problem(str(data_dir), "", f"the queue is damaged: {damage}", DAMAGE_REMEDY))
    elif (data_dir / FILE_NAME).exists():
        _queue(shell, data_dir / FILE_NAME, found)
    stopped = list(_stopped_writers(data_dir))
    if stopped:
        # If the server no longer runs, the marker is obsolete: the next start removes it.
        (found.problems if shell.running() else found.warnings).extend(stopped)
    try:
        if not read_users(data_dir / FILE) and any(listener.auth == "required" for listener in settings.listener):
            remedy = "nobody can log in: add one with `relay user add NAME`"
            found.warnings.append(Problem(str(data_dir), "", "no users", remedy))
    except UserFileError as error:
        what, _, remedy = str(error).removeprefix(f"{data_dir / FILE}: ").partition("; ")
        found.problems.append(Problem(str(data_dir / FILE), "", what, remedy))


def _queue(shell: Shell, database: Path, found: Found) -> None:
    """Check that the queue opens, shows no damage in the part examined, and has no quarantined recipients."""
    aside = 0
    try:
        with shell.admin() as admin:
            integrity = admin.integrity(_EXAMINED_SECONDS)
            for fault in integrity.faults:
                found.problems.append(Problem(str(database), "", f"damaged: {fault}", DAMAGE_REMEDY))
            if not integrity.whole:
                what = f"too large to be examined for damage in {_EXAMINED_SECONDS:.0f} seconds; a part of it was"
                found.notes.append(Problem(str(database), "", what, ""))
            admin.suspensions()
            admin.ended(limit=1)
            aside = sum(item.quarantined for item in admin.summary(Selection(states=(State.QUARANTINED,))))
    except (QueueError, OSError) as error:
        explained = explain(error)
        assert explained is not None, "both are of the world"
        what = explained.what.removeprefix(f"{database} ").removeprefix(f"{database}: ")
        found.problems.append(Problem(str(database), "", what, explained.remedy))
    if aside:
        remedy = "look with `relay queue list --state quarantined`, then release, fail or drop them"
        what = f"{count(aside, 'damaged recipient')} set aside"
        found.warnings.append(Problem(str(database.parent), "", what, remedy))
