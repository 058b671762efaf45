"""Carries out administrators' pending actions and suspensions on mail that this worker has claimed.

A running transaction is never interrupted: its attempt ends first, and the queue then carries out the pending action
when the outcome is recorded.
"""

import asyncio
from collections.abc import Callable

from relay.delivery.lanes import Lanes
from relay.delivery.marker import Marker
from relay.delivery.pending import parted
from relay.delivery.runner import LaneRunner
from relay.delivery.work import Work
from relay.events.recorder import Recorder
from relay_queue.model import Owner
from relay_queue.protocol import Queue, QueueError

_STEP = 60.0
"""Longest sleep, in seconds, while waiting for a suspension to end: the wall clock may jump meanwhile."""
_AGAIN = 5.0
"""Seconds until the next try if the suspensions could not be read."""


class Steering:
    """Carries out actions on the windows of one worker. Calls `wake` when suspended mail may have become due."""

    def __init__(
        self,
        queue: Queue,
        lanes: Lanes,
        marker: Marker,
        recorder: Recorder,
        wake: Callable[[], None],
        *,
        owner: Owner,
        wall: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._marker = marker
        self._recorder = recorder
        self._wake = wake
        self._owner = owner
        self._wall = wall
        self._resuming: asyncio.Task[None] | None = None
        """The task that waits for the first suspension to end."""

    def stop(self) -> None:
        """Stop waiting for suspensions to end."""
        if self._resuming is not None:
            self._resuming.cancel()

    async def reload_suspensions(self) -> None:
        """Read the suspensions and return suspended works to the queue. Repeated when the first suspension ends."""
        now = self._wall()
        lasting = [stop for stop in await self._queue.suspensions() if stop.until is None or stop.until > now]
        if self._resuming is not None and self._resuming is not asyncio.current_task():
            self._resuming.cancel()
        ends = [stop.until for stop in lasting if stop.until is not None]
        self._resuming = asyncio.get_running_loop().create_task(self._resume(min(ends))) if ends else None
        self._lanes.suspend(lasting)
        for lane in self._lanes.running.values():
            stopped = [work for work in lane.planner.window if self._stopped(lane, work)]
            for work in stopped:
                lane.planner.window.remove(work)
            self._marker.release(stopped, due_at=now)
        self._wake()

    async def carry_out(self) -> None:
        """Carry out the pending actions on claimed recipients whose works wait in a window."""
        pending = {(each.message_id, each.n): each for each in await self._queue.pending_actions(self._owner)}
        if not pending:
            return
        for lane in self._lanes.running.values():
            for work in list(lane.planner.window):
                staying, taken = parted(work, pending)
                if not taken:
                    continue
                if staying:
                    work.recipients = staying
                else:
                    lane.planner.window.remove(work)
                for state, recipients in taken.items():
                    self._marker.settle(Work(work.message, recipients, work.body), state)

    async def _resume(self, at: float) -> None:
        """Reload the suspensions at `at` (seconds since the epoch, by the wall clock)."""
        while True:
            await asyncio.sleep(min(at - self._wall(), _STEP))
            try:
                await self.reload_suspensions()
            except QueueError as error:
                self._recorder.problem("suspensions", error)
                at = self._wall() + _AGAIN
            else:
                return

    def _stopped(self, lane: LaneRunner, work: Work) -> bool:
        return (
            lane.planner.suspended is not None
            or work.message.user in self._lanes.suspended_users
            or any(self._lanes.suspended_domain(recipient.domain) for recipient in work.recipients)
        )
