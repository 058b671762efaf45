"""Decides when the writer commits: at once, or a moment later together with operations about to arrive (group commit).

A commit costs as much CPU as storing several messages, so under load commits keep a minimum distance. But a client
that sends one message after the other waits for each commit, and must not wait for other clients that do not exist.
A fixed delay would do exactly that, so the writer learns how many operations arrive together and waits only for that
many. The writer thread waits here; the event loop reports arrivals.
"""

import contextlib
import math
import threading
import time
from typing import Final

INTERVAL: Final = 0.006
"""Seconds between commits under load. A batch of outcomes alone always waits this long: no client waits for it."""
BURST: Final = 3
"""Commits that may follow each other without the interval after a quiet period, so that light traffic never waits."""
_FULL: Final = 64
"""A batch of this many operations is committed without waiting for more."""
_TRY_EVERY: Final = 16
"""After this many commits in a row that got enough operations in time, the writer waits for one more than before,
because there may be more clients by now."""


class Pace:
    """The commit pacing of one writer.

    An operation is awaited if a caller cannot continue before it is committed: all operations except marks.
    """

    def __init__(self) -> None:
        self._called = threading.Lock()
        self._called.acquire()
        self._come = 0
        """Number of awaited operations submitted so far."""
        self._goal = math.inf
        """The value of `_come` at which the writer stops waiting."""
        self._enough = 1
        """Number of awaited operations that a commit under load waits for (learned)."""
        self._reached = 0
        """How many times in a row `_enough` operations arrived in time."""
        self._next_at = 0.0
        """When the next commit is due at the paced rate, monotonic seconds (GCRA, as for a lane's rate)."""
        self._busy = False
        """Commits follow each other closely, that is, the burst is used up."""
        self._ended = False

    def came(self) -> None:
        """Record that an awaited operation was submitted."""
        self._come += 1
        if self._come >= self._goal:
            self._call()

    def end(self) -> None:
        """No more operations will arrive: end the current wait and all later ones."""
        self._ended = True
        self._call()

    def _call(self) -> None:
        if self._called.locked():
            # The event loop and the thread that closes the queue may both release the lock.
            with contextlib.suppress(RuntimeError):
                self._called.release()

    def wait(self, awaited: int, operations: int) -> bool:
        """Wait before a commit of `operations`, of which `awaited` are awaited.

        Returns False if the expected operations did not arrive in time.
        """
        most, missing = self.plan(time.monotonic(), awaited, operations)
        in_time = True
        if missing:
            self._called.acquire(blocking=False)  # discard a call that came too late for the previous wait
            self._goal = self._come + missing
            # Not time.sleep: since Python 3.11 it waits until an absolute time, which libfaketime refuses (EINVAL).
            in_time = self._ended or self._called.acquire(timeout=most)
            self._goal = math.inf
        self.committing(time.monotonic())
        return in_time

    def plan(self, now: float, awaited: int, operations: int) -> tuple[float, int]:
        """Maximum wait in seconds, and how many more awaited operations to wait for; 0: commit now."""
        early = self._next_at - BURST * INTERVAL - now
        self._busy = early > 0
        if not awaited:
            early = INTERVAL
        if early <= 0 or awaited >= self._enough or operations >= _FULL:
            return 0.0, 0
        return early, self._enough - awaited

    def committing(self, now: float) -> None:
        """Record that a commit begins. A commit that did not wait delays later ones by at most one interval."""
        self._next_at = min(max(self._next_at, now), now + BURST * INTERVAL) + INTERVAL

    def learn(self, awaited: int, *, in_time: bool) -> None:
        """Adapt to the number of awaited operations in a commit: lower or raise `_enough` to what really arrives."""
        if awaited > self._enough or not in_time:
            self._enough = max(1, awaited)
            self._reached = 0
        elif self._busy:
            self._reached += 1
            if self._reached == _TRY_EVERY:
                self._enough += 1
                self._reached = 0
