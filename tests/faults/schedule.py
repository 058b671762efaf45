"""Runs a campaign: rows in segments, several side by side, each in a process of its own."""

import concurrent.futures
import dataclasses
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

from tests.faults.campaign import HEAD, CannotError, Row, line
from tests.support.ledger import Score

_LONGEST = 3600.0
"""Seconds after which a segment hangs."""


@dataclasses.dataclass(slots=True)
class Progress:
    """One row of a running campaign."""

    row: Row
    rounds: int
    begun: int = 0
    """Rounds in segments that were started."""
    done: int = 0
    score: Score = dataclasses.field(default_factory=Score)
    skipped: str = ""
    broke: str = ""
    ends_at: float = 0.0
    """When its share of the time is over (`time.monotonic`)."""

    @property
    def clean(self) -> bool:
        return self.score.clean and not self.broke

    def more(self) -> bool:
        """Whether another segment is to be started."""
        in_time = self.begun == 0 or time.monotonic() < self.ends_at
        return in_time and self.begun < self.rounds and not (self.skipped or self.broke)

    def line(self) -> str:
        """Its line of the table."""
        if self.skipped:
            return f"| {self.row.text} | skipped: {self.skipped} | | | | | |"
        if self.broke:
            return line(dataclasses.replace(self.row, text=f"{self.row.text} (broke off: {self.broke})"), self.score)
        return line(self.row, self.score)


def table(campaign: Iterable[Progress]) -> str:
    """What has been measured so far, as Markdown."""
    return "\n".join([HEAD, *(each.line() for each in campaign if each.done or each.skipped or each.broke)]) + "\n"


class Schedule:
    """`run` takes until all rounds are done or the time is over; `changed` is called after each segment."""

    def __init__(self, campaign: list[Progress], *, jobs: int, seed: int, minutes: float) -> None:
        self._campaign = campaign
        self._jobs = jobs
        self._seed = seed
        self._end = time.monotonic() + minutes * 60
        self._left = len(campaign)
        self._running: dict[concurrent.futures.Future[tuple[Score, list[str]]], tuple[Progress, int]] = {}

    def run(self, changed: Callable[[Progress, list[str]], None]) -> None:
        """Rows that may have company first."""
        pool = concurrent.futures.ThreadPoolExecutor(self._jobs)
        try:
            for alone in (False, True):
                for progress in self._campaign:
                    if progress.row.alone is alone:
                        self._run_row(pool, progress, changed, 1 if alone else self._jobs)
                while self._running:
                    self._collect(changed)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _run_row(
        self,
        pool: concurrent.futures.Executor,
        progress: Progress,
        changed: Callable[[Progress, list[str]], None],
        jobs: int,
    ) -> None:
        now = time.monotonic()
        progress.ends_at = now + (self._end - now) / self._left
        self._left -= 1
        while progress.more():
            rounds = min(progress.row.segment, progress.rounds - progress.begun)
            future = pool.submit(_part, progress.row.name, rounds, self._seed + progress.begun)
            self._running[future] = (progress, rounds)
            progress.begun += rounds
            # The next row's segments fill up what the last of this one leave idle.
            while len(self._running) >= jobs:
                self._collect(changed)

    def _collect(self, changed: Callable[[Progress, list[str]], None]) -> None:
        done, _ = concurrent.futures.wait(self._running, return_when=concurrent.futures.FIRST_COMPLETED)
        for future in done:
            progress, rounds = self._running.pop(future)
            told: list[str] = []
            try:
                score, told = future.result()
            except CannotError as error:
                progress.skipped = str(error)
            except Exception as error:  # noqa: BLE001 -- one row that breaks off must not take the others' results along
                progress.broke = f"{type(error).__name__}: {error}".splitlines()[0]
            else:
                progress.score += score
                progress.done += rounds
            changed(progress, told)


def _part(name: str, rounds: int, seed: int) -> tuple[Score, list[str]]:
    command = [sys.executable, "-m", "tests.faults.part", name, str(rounds), str(seed)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_LONGEST)
    result = pickle.loads(done.stdout)
    if isinstance(result, CannotError):
        raise result
    assert isinstance(result, tuple), result
    return result
