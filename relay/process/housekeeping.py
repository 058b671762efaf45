"""Background tasks of a worker.

They delete old history in small steps, bring deliveries forward after the clock was set back, keep the disk reserve
filled, and report that the queue has stopped or is damaged.
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
"""Seconds between checks whether the queue still works."""
_FILL_EVERY = 2.0
"""Seconds between checks whether the reserve is complete."""
_SPARE = 2 << 20
"""Bytes kept free besides the reserve, whatever the settings say, because even an empty queue needs some space."""
_STEP = 1000
_BETWEEN = 0.05
"""Seconds between steps, so that pruning a day's history never blocks the writing of mail."""


class Housekeeping:
    """One per worker; tasks that only one process must do run in the first worker."""

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
        """`bring_forward` means that the clock may have been set back before this worker started."""
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
        """Start the tasks. Removes the failure marker of this worker's predecessor."""
        self._marker.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run()), loop.create_task(self._watch_clock())]

    async def stop(self) -> None:
        """Cancel the tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reload(self, settings: Settings) -> None:
        """Use new settings."""
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
        """Share damage between workers: none may accept mail into a damaged queue, now or after a restart."""
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
        """Reserve disk space for an admin's actions on a full disk, as long as enough stays free for mail."""
        try:
            _, wanted = free_and_needed(self._settings, os.statvfs(self._data_dir))
            reserve.fill(self._data_dir, max(wanted, _SPARE))
        except OSError as error:
            self._log.problem("reserve", error)

    async def _watch_clock(self) -> None:
        """Bring forward recipients that would wait too long after the clock was set back."""
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
        """Leave a marker for `relay check`; from now on new connections are answered 421."""
        self._on_queue_failed()
        self._log.process("queue stopped", reason=reason)
        try:
            self._marker.write_text(f"{reason}\n", encoding="utf-8")
        except FileNotFoundError:
            return  # the data folder is gone, which the reason already says
        except OSError as error:
            # The disk error that stopped the queue may also prevent this write; the log has the reason.
            self._log.problem("queue stopped", error)

    async def _prune(self) -> None:
        keep = self._settings.history.keep
        self._log.prune(self._wall() - keep)
        forgotten = _STEP
        while forgotten >= _STEP:
            await asyncio.sleep(_BETWEEN)
            forgotten = await self._queue.prune(self._wall() - keep, _STEP)
