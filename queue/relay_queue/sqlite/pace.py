"""When the writer commits: at once, or a moment later with what is about to come (group commit).

A commit costs as much CPU as storing several messages, so under load they keep a distance. Clients that send one
message after the other wait for each, and must not wait for company that never comes: how many come together is
learned. One thread waits here and another tells what came.
"""

import contextlib
import math
import threading
import time
from typing import Final

INTERVAL: Final = 0.006
"""Seconds that commits keep between them under load, and that outcomes wait alone: no client waits for those."""
BURST: Final = 3
"""Commits that need not keep the interval, saved up while there was little to do: then nothing waits."""
_FULL: Final = 64
"""Operations that do not wait for more."""
_TRY_EVERY: Final = 16
"""So many times enough came; then one more is waited for, as there may be more clients by now."""


class Pace:
    """Of one writer. An operation is awaited when somebody can't go on without it, as with all but marks."""

    def __init__(self) -> None:
        self._called = threading.Lock()
        self._called.acquire()
        self._come = 0
        """Awaited operations so far."""
        self._goal = math.inf
        """At which of them the waiting ends."""
        self._enough = 1
        """Awaited operations that a commit under load waits for."""
        self._reached = 0
        """How often in a row that many came in time."""
        self._next_at = 0.0
        """When the next commit would be on time (GCRA, as a lane's rate)."""
        self._busy = False
        """Commits follow each other closely."""
        self._ended = False

    def came(self) -> None:
        """An awaited operation was handed in."""
        self._come += 1
        if self._come >= self._goal:
            self._call()

    def end(self) -> None:
        """Nothing more comes: from now on nothing waits."""
        self._ended = True
        self._call()

    def _call(self) -> None:
        if self._called.locked():
            # The event loop and whoever closes the queue may both call.
            with contextlib.suppress(RuntimeError):
                self._called.release()

    def wait(self, awaited: int, operations: int) -> bool:
        """Wait before a commit of so many operations, so many of them awaited. False: in vain."""
        most, missing = self.plan(time.monotonic(), awaited, operations)
        in_time = True
        if missing:
            self._called.acquire(blocking=False)  # of a call that was too late for the last wait nothing is left
            self._goal = self._come + missing
            # Not time.sleep, which since Python 3.11 waits for an absolute time: libfaketime refuses that (EINVAL).
            in_time = self._ended or self._called.acquire(timeout=most)
            self._goal = math.inf
        self.committing(time.monotonic())
        return in_time

    def plan(self, now: float, awaited: int, operations: int) -> tuple[float, int]:
        """How long to wait at most (seconds), and for how many more awaited operations; 0: commit now."""
        early = self._next_at - BURST * INTERVAL - now
        self._busy = early > 0
        if not awaited:
            early = INTERVAL
        if early <= 0 or awaited >= self._enough or operations >= _FULL:
            return 0.0, 0
        return early, self._enough - awaited

    def committing(self, now: float) -> None:
        """A commit begins. One that did not wait runs up no debt beyond an interval."""
        self._next_at = min(max(self._next_at, now), now + BURST * INTERVAL) + INTERVAL

    def learn(self, awaited: int, *, in_time: bool) -> None:
        """So many awaited operations were in a commit in the end."""
        if awaited > self._enough or not in_time:
            self._enough = max(1, awaited)
            self._reached = 0
        elif self._busy:
            self._reached += 1
            if self._reached == _TRY_EVERY:
                self._enough += 1
                self._reached = 0
