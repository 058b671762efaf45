"""The rounds of one event loop: first read from all clients that sent something, then work, then write to all.

A loop left alone does all three for one client before it looks at the next. Then each step finds the processor's caches
full of another's, and each reply wakes a client that takes the processor for one line. In rounds a worker beside others
needs a tenth less CPU for a message; where one client comes alone, nothing waits. Must not know what is done.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

_MOST: Final = 32
"""Clients in a round, at most: a hundredth of a second of work at the utmost."""

_log = logging.getLogger(__name__)


class Rounds:
    """Who has something to do in this round."""

    __slots__ = ("_working", "_works", "_writes")

    def __init__(self) -> None:
        self._works: list[Callable[[], None]] = []
        self._writes: list[Callable[[], None]] = []
        self._working = False

    def work(self, call: Callable[[], None]) -> None:
        """Octets came: have `call` called when all were read that are there."""
        works = self._works
        works.append(call)
        if len(works) == 1:
            asyncio.get_running_loop().call_soon(self._round)
        elif len(works) == _MOST and not self._working:
            self._round()

    def write(self, call: Callable[[], None]) -> None:
        """There are replies: have `call` called when the round's work is done."""
        writes = self._writes
        writes.append(call)
        if self._working:
            return
        if len(writes) == 1:
            asyncio.get_running_loop().call_soon(self._round)
        elif len(writes) == _MOST:
            self._round()

    def _round(self) -> None:
        works, self._works = self._works, []
        self._working = True
        for call in works:
            _try(call)
        self._working = False
        writes, self._writes = self._writes, []
        for call in writes:
            _try(call)


def _try(call: Callable[[], None]) -> None:
    """One connection's fault must not keep the others waiting."""
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever it was, it is one connection's
        _log.exception("internal error in a connection")
