"""Gathers the failures of one message, so that one DSN reports all recipients that fail in one delivery run.

Without it, a peer that accepts one recipient per transaction and refuses each would cause one DSN per recipient.
Gathered failures are not recorded yet: their recipients stay claimed, and after a crash they are attempted again. For a
failure that is harmless; for a delivery it would send a duplicate, so deliveries are never gathered. This module must
not write to the queue: it passes released failures to `record`, which handles them like any other verdict.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from relay.delivery.verdict import Verdict
from relay.delivery.work import Work

_LONGEST = 10.0
"""Seconds that a failure waits for the message's other recipients, at most. Most delivery runs end within that time."""


@dataclass(slots=True)
class _Held:
    work: Work
    """Its body is None, so that waiting failures use little memory; the queue still has the body."""
    verdict: Verdict
    timer: asyncio.TimerHandle


class Gathering:
    """Counts claimed recipients by message and holds failures until the others end, then passes them to `record`."""

    def __init__(self, record: Callable[[Work, Verdict], None]) -> None:
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._in_hand: dict[str, int] = {}
        """Recipients without an outcome, by message ID. A wrong count can only delay or split a DSN, because the
        timer records held failures in any case."""
        self._held: dict[str, _Held] = {}

    def expect(self, message_id: str, count: int) -> None:
        """Count newly claimed recipients of a message. A message with a single recipient needs no call."""
        if count:
            self._in_hand[message_id] = self._in_hand.get(message_id, 0) + count

    def ended(self, message_id: str, count: int) -> bool:
        """Count recipients that got an outcome. Returns whether other recipients of the message are still claimed."""
        left = self._in_hand.pop(message_id, 0) - count
        if left > 0:
            self._in_hand[message_id] = left
        return left > 0

    def holds(self, message_id: str) -> bool:
        """Whether failures of the message are held."""
        return message_id in self._held

    def hold(self, work: Work, verdict: Verdict) -> tuple[Work, Verdict]:
        """Hold the failures. Returns the work and the verdict without them."""
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
        """Record the held failures of a message, if there are any."""
        held = self._held.pop(message_id, None)
        if held is not None:
            held.timer.cancel()
            self._record(held.work, held.verdict)

    def release_all(self) -> None:
        """Record all held failures."""
        for message_id in list(self._held):
            self.release(message_id)
