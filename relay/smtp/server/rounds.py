"""Rounds of an event loop: first read from all clients that sent something, then process, then write to all.

Without rounds, the loop does all three steps for one client before it handles the next. Then each step finds the CPU
caches filled with the data of another step, and each reply wakes a client process that takes the CPU for a single line.
Rounds save a few per cent of CPU time (docs/decisions/0010) and add no delay for a client that is alone. This module
must not know what work is done.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol

_MOST: Final = 32
"""Maximum number of clients in a round; ordinary work for so many takes a few milliseconds. A larger round would delay
the first client's reply."""

_log = logging.getLogger(__name__)


class Member(Protocol):
    """The part of a connection that rounds need."""

    def take_turn(self) -> None:
        """Process the received data."""
        ...

    def send_replies(self) -> None:
        """Write the collected replies."""
        ...

    def abort(self) -> None:
        """Close the connection now, because one of the other methods failed."""
        ...


class Rounds:
    """The connections that have work to do in the current round."""

    __slots__ = ("_arrived", "_replies", "_working")

    def __init__(self) -> None:
        self._arrived: list[Member] = []
        self._replies: list[Member] = []
        self._working = False

    def arrived(self, member: Member) -> None:
        """Note that a member has received data; its `take_turn` is called when the loop has read from all clients."""
        arrived = self._arrived
        arrived.append(member)
        if len(arrived) == 1:
            asyncio.get_running_loop().call_soon(self._round)
        elif len(arrived) == _MOST and not self._working:
            self._round()

    def has_replies(self, member: Member) -> None:
        """Note that a member has replies to send; its `send_replies` is called when the round's work is done."""
        replies = self._replies
        replies.append(member)
        if self._working:
            return
        if len(replies) == 1:
            asyncio.get_running_loop().call_soon(self._round)
        elif len(replies) == _MOST:
            self._round()

    def _round(self) -> None:
        # Lists are replaced before they are processed: members that call `arrived` again join the next round, so one
        # busy client cannot prolong this one. A round that was started early by a full list leaves its scheduled call
        # behind; that call then processes whatever has arrived since, or nothing.
        arrived, self._arrived = self._arrived, []
        self._working = True
        for member in arrived:
            _guarded(member, member.take_turn)
        self._working = False
        replies, self._replies = self._replies, []
        for member in replies:
            _guarded(member, member.send_replies)


def _guarded(member: Member, call: Callable[[], None]) -> None:
    """Call a member's method; an error closes only that connection and does not affect the others."""
    try:
        call()
    except Exception:  # noqa: BLE001 - any error concerns only this connection
        _log.exception("internal error in a connection")
        member.abort()
