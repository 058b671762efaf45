"""Exit statuses of commands: 0 success, 1 failure, 2 usage error, 3 nothing matched, 130 interrupted.

Errors that a user can fix are shown as a sentence and a remedy on stderr. A traceback always means a bug.
"""

from typing import IO, Any

import click

FAILED = 1
NOTHING = 3
INTERRUPTED = 130
"""The status that a shell reports for a command ended by Ctrl-C."""


class FailureError(click.ClickException):
    """The command failed (exit 1)."""

    exit_code = FAILED

    def __init__(self, sentence: str, remedy: str | None = None) -> None:
        super().__init__(sentence)
        self.remedy = remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence and its remedy on stderr."""
        from relay.cli.output import printable

        # Text of servers or damaged files must not control the terminal. Settings have a line for each problem.
        lines = [f"relay: {self.message}", *([f"  {self.remedy}"] if self.remedy else [])]
        for line in "\n".join(lines).split("\n"):
            click.echo(printable(line), file=file, err=True)


class NothingMatchedError(FailureError):
    """The requested object does not exist (exit 3); scripts may need to distinguish this from a failure."""

    exit_code = NOTHING


def explain_foreign(error: Exception) -> FailureError | None:
    """Return an explained failure for an error of the environment, or None for a bug."""
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
