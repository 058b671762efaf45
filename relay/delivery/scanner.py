"""Scans the queue periodically for due mail: mail that no notice reported, and mail that just became due."""

import asyncio
from collections.abc import Callable

from relay.delivery.claims import Claims
from relay.events.recorder import Recorder
from relay_queue.model import Destination
from relay_queue.protocol import Queue, QueueError

_PAGE = 500
_EVERY = 1.0
"""Seconds between scans unless the scanner is woken. Mail may be late by this much."""
_SHARE = 20
"""A scan is followed by a pause of this many times its duration, so that scanning uses at most 5 % of a core."""
_REST_MOST = 10.0
"""Longest such pause, in seconds. A scan also takes long if the machine was suspended, and then much mail is due."""


class Scanner:
    """Scans the destinations that have queued recipients. The cost does not depend on the number of recipients."""

    def __init__(self, queue: Queue, claims: Claims, recorder: Recorder, wall: Callable[[], float]) -> None:
        self._queue = queue
        self._claims = claims
        self._recorder = recorder
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Scan soon, because mail may be due."""
        self._awake.set()

    async def run(self) -> None:
        """Scan until cancelled."""
        while True:
            self._awake.clear()
            began = self._loop.time()
            try:
                soonest = await self._scan()
            except QueueError as error:
                self._recorder.problem("scan", error)
                soonest = None
            rest = _EVERY if soonest is None else min(_EVERY, soonest - self._wall())
            took = self._loop.time() - began
            rest = max(rest, 0.01, min(took * _SHARE, _REST_MOST))
            try:
                async with asyncio.timeout(rest):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def _scan(self) -> float | None:
        """Scan all destinations once. Returns the earliest future due time (seconds since the epoch), or None."""
        soonest: float | None = None
        after: Destination | None = None
        while True:
            now = self._wall()
            page = await self._queue.due(now, after, _PAGE)
            for destination, due_at in page:
                if due_at <= now:
                    self._claims.due(destination)
                elif soonest is None or due_at < soonest:
                    soonest = due_at
            if len(page) < _PAGE:
                return soonest
            after = page[-1][0]
