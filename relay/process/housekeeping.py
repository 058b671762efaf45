"""What a worker does on the side.

It forgets old history in small steps, lets no mail wait for a time by a clock that was set back since, and reports that
the queue has stopped or is damaged.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from relay.delivery.retry import latest
from relay.events.log import EventLog
from relay.process.clock import Clock
from relay.process.marker import MARKER, damage_of, leave_damage
from relay.submission.disk import free_and_needed
from relay_config.schema import Settings
from relay_queue import reserve
from relay_queue.protocol import Queue, QueueError

_PRUNE_EVERY = 60.0
_LOOK_EVERY = 0.5
"""Seconds between looks at whether the queue still works."""
_FILL_EVERY = 2.0
"""Seconds between looks at whether the reserve is whole."""
_SPARE = 2 << 20
"""Octets that stay free besides the reserve, whatever the settings say: a queue needs some to begin with."""
_STEP = 1000
_BETWEEN = 0.05
"""Seconds between steps, so that pruning a day's history never keeps mail from being written."""


class Housekeeping:
    """One per worker; the first worker does what is to be done once."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        log: EventLog,
        slot: int,
        on_queue_failed: Callable[[], None],
        *,
        bring_forward: bool = False,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`bring_forward`: the clock may have been set back before this worker started."""
        self._settings = settings
        self._queue = queue
        self._log = log
        self._slot = slot
        self._data_dir = Path(settings.data_dir)
        self._marker = self._data_dir / "run" / f"{MARKER}{slot}"
        self._damage_told = False
        self._on_queue_failed = on_queue_failed
        self._bring_forward_first = bring_forward
        self._wall = wall
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; an earlier run's failure is over once its successor runs."""
        self._marker.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._watch_clock())]

    async def stop(self) -> None:
        """End at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reload(self, settings: Settings) -> None:
        """Take new settings."""
        self._settings = settings

    async def _run(self) -> None:
        pruned_at = filled_at = float("-inf")
        loop = asyncio.get_running_loop()
        while (reason := self._queue.failed()) is None:
            self._look_for_damage()
            if self._slot == 0 and loop.time() - filled_at >= _FILL_EVERY:
                filled_at = loop.time()
                await asyncio.to_thread(self._fill_reserve)
            if self._slot == 0 and loop.time() - pruned_at >= _PRUNE_EVERY:
                pruned_at = loop.time()
                try:
                    await self._prune()
                except (QueueError, OSError) as error:
                    self._log.problem("prune", error)
            await asyncio.sleep(_LOOK_EVERY)
        self._look_for_damage()
        self._queue_failed(reason)

    def _look_for_damage(self) -> None:
        """What one worker met counts for all: none accepts mail on top of a damaged queue, now or after a restart."""
        if self._damage_told:
            return
        try:
            if (what := self._queue.damaged()) is not None:
                self._damage_told = True
                self._log.process("queue damaged", reason=what)
                leave_damage(self._data_dir, f"worker {self._slot}", what, self._wall())
            elif (what := damage_of(self._data_dir)) is not None:
                self._damage_told = True
                self._log.process("queue damaged", reason=what)
                self._queue.note_damage(what)
        except OSError as error:
            self._log.problem("queue damaged", error)

    def _fill_reserve(self) -> None:
        """Set room aside for an admin's actions on a full disk, as long as enough stays free for mail."""
        try:
            _, wanted = free_and_needed(self._settings, os.statvfs(self._data_dir))
            reserve.fill(self._data_dir, max(wanted, _SPARE))
        except OSError as error:
            self._log.problem("reserve", error)

    async def _watch_clock(self) -> None:
        """Hasten what waits for too long whenever the clock was set back."""
        clock = Clock(self._wall(), time.monotonic())
        wanted = self._bring_forward_first
        while self._queue.failed() is None:
            back = clock.set_back(self._wall(), time.monotonic())
            if back and self._slot == 0:
                self._log.process("clock set back", seconds=round(back))
                wanted = True
            if wanted:
                try:
                    await self._bring_forward()
                    wanted = False
                except QueueError as error:
                    self._log.problem("bring forward", error)
            await asyncio.sleep(_LOOK_EVERY)

    async def _bring_forward(self) -> None:
        now = self._wall()
        untried, tried = latest(self._settings, now)
        if count := await self._queue.bring_forward(untried, tried, now):
            self._log.process("brought forward", recipients=count)

    def _queue_failed(self, reason: str) -> None:
        """Leave word for `relay check`: new connections are answered 421 from here on."""
        self._on_queue_failed()
        self._log.process("queue stopped", reason=reason)
        try:
            self._marker.write_text(f"{reason}\n", encoding="utf-8")
        except FileNotFoundError:
            return  # the data folder is gone, which the reason says
        except OSError as error:
            # The disk that failed the queue may fail this too; the log has it.
            self._log.problem("queue stopped", error)

    async def _prune(self) -> None:
        keep = self._settings.history.keep
        self._log.prune(self._wall() - keep)
        forgotten = _STEP
        while forgotten >= _STEP:
            await asyncio.sleep(_BETWEEN)
            forgotten = await self._queue.prune(self._wall() - keep, _STEP)
