"""The rounds of one event loop: first read from all clients that sent something, then work, then write to all.

A loop left alone does all three for one client before it looks at the next. Then each step finds the processor's caches
full of another's, and each reply wakes a client that takes the processor for one line. Rounds save some per cent of the
CPU (docs/decisions/0010); where one client comes alone, nothing waits. Must not know what is done.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

_MOST: Final = 32
"""Clients in a round, at most: a few milliseconds of ordinary work."""

_log = logging.getLogger(__name__)


class Member(Protocol):
    """A connection, as far as rounds are concerned."""

    def take_turn(self) -> None:
        """Work on what has arrived."""
        ...

    def send_replies(self) -> None:
        """Write the replies gathered."""
        ...

    def abort(self) -> None:
        """End now: one of the above has failed."""
        ...


class Rounds:
    """Who has something to do in this round."""

    __slots__ = ("_arrived", "_replies", "_working")

    def __init__(self) -> None:
        self._arrived: list[Member] = []
        self._replies: list[Member] = []
        self._working = False

    def arrived(self, member: Member) -> None:
        """Octets came: it is the member's turn when all was read that is there."""
        arrived = self._arrived
        arrived.append(member)
        if len(arrived) == 1:
            asyncio.get_running_loop().call_soon(self._round)
        elif len(arrived) == _MOST and not self._working:
            self._round()

    def has_replies(self, member: Member) -> None:
        """There are replies: they go out when the round's work is done."""
        replies = self._replies
        replies.append(member)
        if self._working:
            return
        if len(replies) == 1:
            asyncio.get_running_loop().call_soon(self._round)
        elif len(replies) == _MOST:
            self._round()

    def _round(self) -> None:
        arrived, self._arrived = self._arrived, []
        self._working = True
        for member in arrived:
            _guarded(member, member.take_turn)
        self._working = False
        replies, self._replies = self._replies, []
        for member in replies:
            _guarded(member, member.send_replies)


def _guarded(member: Member, call: Callable[[], None]) -> None:
    """One connection's fault ends that one, and keeps no other waiting."""
    try:
        call()
    except Exception:  # noqa: BLE001 - whatever it was, it is one connection's
        _log.exception("internal error in a connection")
        member.abort()
