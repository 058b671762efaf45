"""Makes a report of what a worker's lanes are doing, for administrators who want to know why mail waits.

A report contains only lanes in which mail waits or is being sent, and limits the details of each, so it stays small
however much mail there is. `relay.process.reports` publishes it, and `relay.cli.why` renders it as text.
"""

from collections.abc import Iterable, Mapping

from relay.delivery.lane import Phase
from relay.delivery.report_records import LaneReport, OnWire, Piece, WorkerReport
from relay.delivery.runner import LaneRunner
from relay.delivery.work import Work
from relay_config.words import format_rate

_LANES_MOST = 500
_LINE_MOST = 100
"""Most waiting works listed for a lane."""
_RECIPIENTS_MOST = 20_000
"""Most recipients listed in a report, over all lanes."""
_DOMAINS_MOST = 5000


class Reporting:
    """Makes one report and keeps track of its remaining size."""

    def __init__(self, wall: float, loop_time: float) -> None:
        self._wall = wall
        self._now = loop_time
        self._recipients = _RECIPIENTS_MOST
        self._domains = _DOMAINS_MOST

    def report(self, lanes: Iterable[LaneRunner], suspended: Mapping[str, str]) -> WorkerReport:
        """Return the report on these lanes and on domains whose lane is suspended."""
        report = WorkerReport(self._wall)
        for lane in lanes:
            planner = lane.planner
            paused = self._now < planner.paused_until
            if not (
                paused or planner.window or lane.waiting or planner.connecting or len(planner.slots) > len(planner.idle)
            ):
                continue
            if len(report.lanes) == _LANES_MOST:
                break
            report.lanes.append(self._lane(lane, paused=paused))
        for domain, name in suspended.items():
            if not self._take_domain():
                break
            report.suspended[domain] = name
        return report

    def _lane(self, lane: LaneRunner, *, paused: bool) -> LaneReport:
        planner, whole = lane.planner, lane.whole
        told = LaneReport(lane.name, max_connections=whole.max_connections, waiting=len(planner.window))
        if paused:
            told.paused_until = self._at(planner.paused_until)
            told.cause = planner.cause
        told.limit = planner.held_by(self._now)
        if whole.rate.amount:
            told.rate = format_rate(whole.rate)
        for work, _ in zip(planner.window, range(_LINE_MOST), strict=False):
            if (piece := self._piece(work)) is None:
                break
            told.line.append(piece)
        for slot in planner.slots:
            if slot.phase is Phase.CONNECTING:
                since = self._at(slot.since)
                told.connecting_since = min(told.connecting_since or since, since)
            elif slot.work is not None and (piece := self._piece(slot.work)) is not None:
                session = lane.sessions.get(slot)
                if session is not None:
                    told.wire.append(OnWire(piece, session.remote, self._at(slot.since), session.stage))
        told.domains = [destination.domain for destination in lane.waiting if self._take_domain()]
        return told

    def _piece(self, work: Work) -> Piece | None:
        self._recipients -= len(work.recipients)
        if self._recipients < 0:
            return None
        return Piece(work.message.id, tuple([recipient.n for recipient in work.recipients]))

    def _take_domain(self) -> bool:
        self._domains -= 1
        return self._domains >= 0

    def _at(self, loop_time: float) -> float:
        """Convert loop time to seconds since the epoch."""
        return round(self._wall + loop_time - self._now, 1)
