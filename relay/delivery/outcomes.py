"""From outcomes to records: joins what an attempt meant with the state of its lane and with the retry schedule.

The one place that decides what a report means for the lane. It knows nothing of sessions or protocols.
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
    """What became of works, for all lanes of a worker."""

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
        """A transaction ended, or broke."""
        if report.pause is not None:
            if lane.fail(report.pause, report.pause_for):
                self._recorder.lane(lane.name, "paused", report.pause, self._paused_until(lane))
        elif lane.planner.failures and report.progress is Progress.ANSWERED:
            lane.planner.succeeded()
            self._recorder.lane(lane.name, "resumed", "")
        self._judge(lane, work, report.outcomes, report.remote, peer_reports=report.reports_delivery)

    def unreachable(self, lane: LaneRunner, failure: Failure) -> None:
        """No session came about: all works in the window share the failure."""
        self._recorder.lane(lane.name, "paused", failure.text, self._paused_until(lane))
        for work in lane.planner.window.drain():
            self._judge(lane, work, [failure.outcome] * len(work.recipients), failure.remote)

    def paused(self, lane: LaneRunner, entry: Entry) -> None:
        """Mail for a paused lane is deferred with the lane's cause."""
        outcome = judge_pause(lane.planner.cause)
        self._judge(lane, Work(entry.message, entry.recipients, None), [outcome] * len(entry.recipients), None)

    def unroutable(self, entry: Entry, error: RouteError, domain: str) -> None:
        """Mail whose domain has no route fails or is deferred without a lane."""
        work = Work(entry.message, entry.recipients, None)
        self._record(work, [judge_route(error)] * len(entry.recipients), domain, None, not_before=0.0)

    def interrupted(self, work: Work) -> None:
        """We cut off the session ourselves."""
        self._marker.release([work], due_at=self._wall())

    def quarantine(self, work: Work, error: BodyDamagedError) -> None:
        """The stored message is damaged."""
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
        """The end of the lane's pause in seconds since the epoch (the planner counts on the loop's clock)."""
        left = lane.pause_left()
        return self._wall() + left if left > 0 else 0.0
