"""What a row of the fault table is, and how rows are run and told.

A row runs `rounds` faults in `folder` and returns its score. It must judge by the ledgers, never by what the relay
says of itself.
"""

import dataclasses
import shutil
import statistics
import tempfile
import time
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
    segment: int = 20
    """Rounds in one folder, before the queue runs dry and the ledgers are compared."""


ROWS: dict[str, Row] = {}


def row(
    text: str, *, rounds: int = 20, segment: int = 20, name: str | None = None
) -> Callable[[Callable[[Path, int, int], Awaitable[Score]]], Callable[[Path, int, int], Awaitable[Score]]]:
    """Register a function as a row."""

    def register(run: Callable[[Path, int, int], Awaitable[Score]]) -> Callable[[Path, int, int], Awaitable[Score]]:
        key = name or getattr(run, "__name__", "").replace("_", "-")
        ROWS[key] = Row(key, text, run, rounds, segment)
        return run

    return register


async def perform(one: Row, rounds: int, seed: int, until: float, say: Callable[[str], None] = lambda _: None) -> Score:
    """Run a row in segments until its rounds are done or the time (`time.monotonic`) is over."""
    total = Score()
    done = 0
    while done < rounds and (time.monotonic() < until or done == 0):
        now = min(one.segment, rounds - done)
        folder = Path(tempfile.mkdtemp(prefix=f"fault-{one.name}-"))
        score = await one.run(folder, now, seed + done)
        total += score
        done += now
        if score.clean:
            shutil.rmtree(folder)
        else:
            say(f"  {one.name}, seed {seed + done - now}: evidence in {folder}")
            for sentence in [*score.lost[:5], *score.wrong[:5]]:
                say(f"    {sentence}")
        say(f"  {one.name}: {done} of {rounds} rounds, {total.acknowledged} taken, {len(total.lost)} lost")
    return total


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
