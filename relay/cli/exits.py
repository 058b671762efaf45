"""How a command ends: 0 done, 1 failed, 2 usage, 3 nothing matched, 130 interrupted.

Errors that a person can mend are a sentence and a remedy on stderr, never a traceback; that would mean a fault
of ours.
"""

from typing import IO, Any

import click

FAILED = 1
NOTHING = 3
INTERRUPTED = 130
"""As a shell reports a command that Ctrl-C ended."""


class FailureError(click.ClickException):
    """The command could not do what was asked (exit 1)."""

    exit_code = FAILED

    def __init__(self, sentence: str, remedy: str | None = None) -> None:
        super().__init__(sentence)
        self.remedy = remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """The sentence and its remedy, on stderr."""
        from relay.cli.output import printable

        # What a server or a damaged file said must not steer the terminal; settings have a line for each problem.
        lines = [f"relay: {self.message}", *([f"  {self.remedy}"] if self.remedy else [])]
        for line in "\n".join(lines).split("\n"):
            click.echo(printable(line), file=file, err=True)


class NothingMatchedError(FailureError):
    """What was asked about does not exist (exit 3), which scripts may want to tell from a failure."""

    exit_code = NOTHING


def explain_foreign(error: Exception) -> FailureError | None:
    """A sentence for what the world did to a command; None when the fault is ours."""
    from relay.process.failures import explain_os
    from relay.submission.users import UserFileError
    from relay_config.problems import SettingsError
    from relay_queue.protocol import (
        BodyDamagedError,
        QueueDamagedError,
        QueueError,
        QueueFullError,
        QueueVersionError,
    )

    match error:
        case UserFileError():
            sentence = FailureError(f"{error}.")
        case SettingsError():
            sentence = FailureError(str(error))
        case QueueFullError():
            sentence = FailureError(f"No room for the queue: {error}", "Free some disk space and repeat the command.")
        case BodyDamagedError():
            sentence = FailureError(f"The stored message cannot be read: {error}", "`relay queue show ID` says more.")
        case QueueVersionError():
            sentence = FailureError(str(error), "Use the release that made the queue, or a newer one.")
        case QueueDamagedError():
            sentence = FailureError(
                f"The queue is damaged: {error}", "Stop the relay, run `relay queue salvage`, start it again."
            )
        case QueueError():
            sentence = FailureError(f"The queue refused: {error}")
        case OSError():
            explained = explain_os(error)
            sentence = FailureError(f"{explained.what}.", _sentence(explained.remedy))
        case _:
            return None
    return sentence


def _sentence(remedy: str) -> str | None:
    return f"{remedy[0].upper()}{remedy[1:]}." if remedy else None
