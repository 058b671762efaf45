"""What a row of the fault table is, and how rows are run and told.

A row runs `rounds` faults in `folder` and returns its score. It may run beside others, and beside itself: everything
it has is in its folder or on ports of its own. It must judge by the ledgers, never by what the relay
says of itself.
"""

import asyncio
import dataclasses
import shutil
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.ledger import Score


class CannotError(Exception):
    """The row needs something this machine does not have; the text says what."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One fault."""

    name: str
    text: str
    run: Callable[[Path, int, int], Awaitable[Score]]
    """(folder, rounds, seed) to a score. Called again with a fresh folder until all rounds are done."""
    rounds: int = 20
    """Rounds of a run without `--rounds`."""
    segment: int = 50
    """Rounds in one folder, before the queue runs dry and the ledgers are compared."""
    alone: bool = False
    """It measures times or processor shares: nothing else may run beside it."""
    long: bool = False
    """Takes minutes: not for `make test`."""


ROWS: dict[str, Row] = {}


_Run = Callable[[Path, int, int], Awaitable[Score]]


def row(
    text: str, *, rounds: int = 20, segment: int = 50, name: str | None = None, alone: bool = False, long: bool = False
) -> Callable[[_Run], _Run]:
    """Register a function as a row."""

    def register(run: _Run) -> _Run:
        key = name or getattr(run, "__name__", "").replace("_", "-")
        ROWS[key] = Row(key, text, run, rounds, segment, alone, long)
        return run

    return register


def segment(one: Row, rounds: int, seed: int) -> tuple[Score, list[str]]:
    """Run some rounds in a fresh folder, which stays if anything was wrong; the score, and lines about that."""
    folder = Path(tempfile.mkdtemp(prefix=f"fault-{one.name}-"))

    async def run() -> Score:
        return await one.run(folder, rounds, seed)

    score = asyncio.run(run())
    if score.clean:
        shutil.rmtree(folder)
        return score, []
    told = [f"{one.name}, seed {seed}: evidence in {folder}"]
    return score, told + [f"  {sentence}" for sentence in [*score.lost[:5], *score.wrong[:5]]]


HEAD = (
    "| fault | injected | acknowledged | lost | doubled in the window | otherwise wrong | recovery, median / worst |\n"
    "|---|--:|--:|--:|--:|--:|--:|"
)


def line(one: Row, score: Score) -> str:
    """A row of the table, as Markdown."""
    recovery = "-"
    if score.recoveries:
        recovery = f"{statistics.median(score.recoveries):.2f} s / {max(score.recoveries):.2f} s"
    notes = f" ({'; '.join(score.notes)})" if score.notes else ""
    return (
        f"| {one.text}{notes} | {score.faults:,} | {score.acknowledged:,} | {len(score.lost)} | {score.doubled} "
        f"| {len(score.wrong)} | {recovery} |"
    )
