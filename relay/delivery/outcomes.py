"""Combines the outcomes of an attempt with the lane's state and the retry schedule, and has them recorded.

This is the only module that decides how a report affects its lane. It does not depend on sessions or protocols.
"""

import random
from collections.abc import Callable, Sequence

from relay.delivery.marker import Marker
from relay.delivery.outcome import Outcome, judge_pause, judge_route
from relay.delivery.routes import RouteError
from relay.delivery.runner import LaneRunner
from relay.delivery.transport import Failure, Progress, Report
from relay.delivery.verdict import Circumstances, judge
from relay.delivery.work import Work
from relay.events.recorder import Recorder
from relay_config.streams import Streams
from relay_queue.model import Entry, Owner
from relay_queue.protocol import BodyDamagedError
from relay_queue.states import State


class Outcomes:
    """Handles the outcomes of all lanes of a worker."""

    def __init__(
        self, marker: Marker, recorder: Recorder, streams: Streams, *, owner: Owner, wall: Callable[[], float]
    ) -> None:
        self._marker = marker
        self._recorder = recorder
        self._owner = owner
        self._wall = wall
        self.streams = streams
        """Replaced on reload."""

    def attempted(self, lane: LaneRunner, work: Work, report: Report) -> None:
        """Handle the report of a transaction that ended or broke off."""
        if report.pause is not None:
            if lane.fail(report.pause, report.pause_for):
                self._recorder.lane(lane.name, "paused", report.pause, self._paused_until(lane))
        elif lane.planner.failures and report.progress is Progress.ANSWERED:
            lane.planner.succeeded()
            self._recorder.lane(lane.name, "resumed", "")
        self._judge(lane, work, report.outcomes, report.remote, peer_reports=report.reports_delivery)

    def unreachable(self, lane: LaneRunner, failure: Failure) -> None:
        """Handle a failure to open a session: all works in the window get the same outcome."""
        self._recorder.lane(lane.name, "paused", failure.text, self._paused_until(lane))
        for work in lane.planner.window.drain():
            self._judge(lane, work, [failure.outcome] * len(work.recipients), failure.remote)

    def paused(self, lane: LaneRunner, entry: Entry) -> None:
        """Defer mail for a paused lane with the cause of the pause."""
        outcome = judge_pause(lane.planner.cause)
        self._judge(lane, Work(entry.message, entry.recipients, None), [outcome] * len(entry.recipients), None)

    def unroutable(self, entry: Entry, error: RouteError, domain: str) -> None:
        """Fail or defer mail whose domain has no route. No lane is involved."""
        work = Work(entry.message, entry.recipients, None)
        self._record(work, [judge_route(error)] * len(entry.recipients), domain, None, not_before=0.0)

    def interrupted(self, work: Work) -> None:
        """Return a work to the queue after this worker cut off its session."""
        self._marker.release([work], due_at=self._wall())

    def quarantine(self, work: Work, error: BodyDamagedError) -> None:
        """Quarantine a work whose stored message is damaged."""
        self._marker.settle(work, State.QUARANTINED, f"stored message is damaged: {error}")

    def _judge(
        self,
        lane: LaneRunner,
        work: Work,
        outcomes: Sequence[Outcome],
        remote: str | None,
        *,
        peer_reports: bool = False,
    ) -> None:
        self._record(work, outcomes, lane.name, remote, not_before=self._paused_until(lane), peer_reports=peer_reports)

    def _record(
        self,
        work: Work,
        outcomes: Sequence[Outcome],
        lane: str,
        remote: str | None,
        *,
        not_before: float,
        peer_reports: bool = False,
    ) -> None:
        now, message = self._wall(), work.message
        around = Circumstances(
            self._owner,
            now,
            lane,
            remote,
            self.streams.retry(message.stream, message.received_at, message.expires_at),
            random.random,
            peer_reports,
            not_before,
        )
        self._marker.record(work, judge(work, outcomes, around), now)

    def _paused_until(self, lane: LaneRunner) -> float:
        """Return the end of the lane's pause in seconds since the epoch (the planner uses loop time); 0: not paused."""
        left = lane.pause_left()
        return self._wall() + left if left > 0 else 0.0
