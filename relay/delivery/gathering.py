"""Gathers the failures of one message, so that one DSN tells of all that fail in one run of delivery.

A peer that takes one recipient in a transaction and refuses each would else cause a DSN for each. What is gathered is
not marked yet: it stays in hand, and after a crash the peer is asked once more. So only failures wait, where that does
no harm; never deliveries. Must not write: what is released is recorded as any verdict is.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from relay.delivery.verdict import Verdict
from relay.delivery.work import Work

_LONGEST = 10.0
"""Seconds that a failure waits for others, should one recipient take for ever. As long as most whole runs."""


@dataclass(slots=True)
class _Held:
    work: Work
    """Its body is None: memory must not grow with what waits, and the queue still has it."""
    verdict: Verdict
    timer: asyncio.TimerHandle


class Gathering:
    """What is in hand by message, and the failures that wait for the rest. `record` is called with what is complete."""

    def __init__(self, record: Callable[[Work, Verdict], None]) -> None:
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._in_hand: dict[str, int] = {}
        """Recipients whose outcome is to come. It only joins and brings forward: correctness rests on the timer."""
        self._held: dict[str, _Held] = {}

    def expect(self, message_id: str, count: int) -> None:
        """So many recipients were taken in hand, or none. One that is alone need not be told."""
        if count:
            self._in_hand[message_id] = self._in_hand.get(message_id, 0) + count

    def ended(self, message_id: str, count: int) -> bool:
        """So many have their outcome. Whether others of the message are in hand still."""
        left = self._in_hand.pop(message_id, 0) - count
        if left > 0:
            self._in_hand[message_id] = left
        return left > 0

    def holds(self, message_id: str) -> bool:
        """Whether failures of the message wait."""
        return message_id in self._held

    def hold(self, work: Work, verdict: Verdict) -> tuple[Work, Verdict]:
        """Keep the failures; returns the rest of both."""
        message = work.message
        held = self._held.get(message.id)
        if held is None:
            timer = self._loop.call_later(_LONGEST, self.release, message.id)
            held = self._held[message.id] = _Held(Work(message, [], None), Verdict(), timer)
        gone = {recipient.n for recipient in verdict.failed}
        held.work.recipients += verdict.failed
        held.verdict.failed += verdict.failed
        held.verdict.marks += [mark for mark in verdict.marks if mark.n in gone]
        rest = [recipient for recipient in work.recipients if recipient.n not in gone]
        marks = [mark for mark in verdict.marks if mark.n not in gone]
        return Work(message, rest, work.body), Verdict(marks, [], verdict.delayed, verdict.relayed)

    def release(self, message_id: str) -> None:
        """Record what waits of a message, if anything does."""
        held = self._held.pop(message_id, None)
        if held is not None:
            held.timer.cancel()
            self._record(held.work, held.verdict)

    def release_all(self) -> None:
        """Record everything that waits."""
        for message_id in list(self._held):
            self.release(message_id)
