"""The lane's planner, driven by hand: no loop, no clock, no sockets."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.delivery.lane import LanePlanner, Phase, Slot
from relay.delivery.window import Budget, Window
from relay.delivery.work import Work
from relay_config.schema import Lane, Settings
from relay_config.streams import Streams
from relay_config.words import Duration, Rate
from relay_queue.model import DEFAULT_STREAM, Message

UNLIMITED = Rate(0, 1)


def work(n: int = 0) -> Work:
    return Work(Message(id=str(n), received_at=0, sender="a@example.org", size=1), [], None)


def planner(**limits) -> LanePlanner:
    defaults = {"rate": UNLIMITED, "connection_rate": UNLIMITED, "backoff": Duration(30), "backoff_max": Duration(100)}
    window = Window(Streams(Settings(hostname="relay.test")), Budget(1 << 30))
    return LanePlanner("mx.example.org", Lane(**(defaults | limits)), 5.0, window)


def fill(lane: LanePlanner, works) -> None:
    for each in works:
        lane.window.add(each)


def connect(lane: LanePlanner, now: float) -> list[Slot]:
    slots = lane.plan(now).open
    for slot in slots:
        lane.connected(slot, now)
    return slots


def test_an_unproven_site_is_tried_with_two_connections_at_most():
    lane = planner(max_connections=5)
    fill(lane, (work(n) for n in range(5)))
    opened = lane.plan(0).open
    assert len(opened) == 2
    assert lane.plan(0).open == []
    lane.connected(opened[0], 0)
    plan = lane.plan(0)
    assert len(plan.start) == 1
    assert len(plan.open) == 3


def test_opens_one_connection_per_waiting_work_up_to_the_limit():
    lane = planner(max_connections=3)
    lane.proven = True
    fill(lane, (work(n) for n in range(2)))
    assert len(lane.plan(0).open) == 2
    assert lane.plan(0).open == []
    fill(lane, (work(n) for n in range(5)))
    assert len(lane.plan(0).open) == 1


def test_starts_work_on_idle_connections_first_in_first_out():
    lane = planner(max_connections=2)
    works = [work(n) for n in range(3)]
    fill(lane, works)
    connect(lane, 0)
    plan = lane.plan(0)
    assert [w for _, w in plan.start] == works[:2]
    slot = plan.start[0][0]
    assert lane.finished(slot, 1, reusable=True)
    assert lane.plan(1).start == [(slot, works[2])]


def test_a_connection_is_replaced_after_its_messages():
    lane = planner(max_connections=1, messages_per_connection=2)
    fill(lane, (work(n) for n in range(3)))
    (slot,) = connect(lane, 0)
    lane.plan(0)
    assert lane.finished(slot, 0, reusable=True)
    lane.plan(0)
    assert not lane.finished(slot, 0, reusable=True)
    assert lane.plan(0).open == [], "the old one still counts until it is closed"
    lane.closed(slot)
    assert len(lane.plan(0).open) == 1


def test_an_idle_connection_closes_in_time_and_wakes_for_it():
    lane = planner()
    lane.window.add(work())
    (slot,) = connect(lane, 0)
    lane.plan(0)
    lane.finished(slot, 10, reusable=True)
    plan = lane.plan(10)
    assert plan.close == []
    assert plan.wake_at == 15
    assert lane.plan(15).close == [slot]
    assert slot.phase is Phase.CLOSING


def test_the_rate_holds_starts_back_and_says_when():
    lane = planner(rate=Rate(1, 10))
    fill(lane, [work(0), work(1)])
    (slot,) = connect(lane, 100)
    assert len(lane.plan(100).start) == 1
    lane.finished(slot, 101, reusable=True)
    plan = lane.plan(101)
    assert plan.start == []
    assert plan.wake_at == 106, "the idle connection's end comes before the next start at 110"
    assert lane.plan(110).start or lane.plan(110).open


def test_failures_pause_the_lane_longer_each_time_and_then_probe_with_one():
    lane = planner(max_connections=5)
    lane.proven = True
    fill(lane, (work(n) for n in range(5)))
    first = lane.plan(0).open
    assert len(first) == 5
    for slot in first:
        lane.closed(slot)
        lane.failed("connection refused", 0, random=0.5)
    assert lane.failures == 1, "failures during a pause are the same failure"
    plan = lane.plan(1)
    assert plan.open == []
    assert plan.wake_at == 30
    assert lane.room(DEFAULT_STREAM, 1) == 0
    (probe,) = lane.plan(30).open
    lane.closed(probe)
    assert lane.failed("again", 30, random=0.5) == 30 + 60
    assert lane.failed("again", 90, random=0.5) == 90 + 100, "never longer than backoff_max"
    lane.succeeded()
    lane.proven = True
    assert len(lane.plan(190).open) == 5


def test_the_settings_may_prescribe_a_pause():
    assert planner().failed("over the limit", 200, random=0.5, seconds=600) == 200 + 600


def test_a_suspended_lane_starts_nothing_but_lets_idle_connections_go():
    lane = planner()
    lane.window.add(work())
    (slot,) = connect(lane, 0)
    lane.suspended = "maintenance"
    assert lane.plan(0).start == []
    assert lane.room(DEFAULT_STREAM, 0) == 0
    assert lane.plan(5).close == [slot]


def test_a_window_holds_what_the_rate_allows_soon():
    assert planner(rate=Rate(1, 3600)).capacity == 1
    assert planner(rate=Rate(10, 1)).capacity == 100
    assert planner().capacity == 1000


class LaneMachine(RuleBasedStateMachine):
    """Whatever happens in whatever order, the limits hold and no work is lost or started twice."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = planner(max_connections=3, messages_per_connection=2, rate=Rate(5, 1), connection_rate=Rate(2, 1))
        self.now = 0.0
        self.given = 0
        self.busy: dict[Slot, Work] = {}
        self.done: list[Work] = []

    @rule(count=st.integers(1, 5))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.lane.window.add(work(self.given))
            self.given += 1

    @rule(seconds=st.floats(0, 3))
    def plan(self, seconds: float) -> None:
        self.now += seconds
        plan = self.lane.plan(self.now)
        for slot, started in plan.start:
            assert slot not in self.busy
            self.busy[slot] = started
        for slot in plan.close:
            self.lane.closed(slot)
        assert plan.wake_at is None or plan.wake_at > self.now
        stalled = self.lane.window and not self.lane.slots
        assert not stalled or plan.wake_at is not None, "waiting work must always have a next wake-up"

    @precondition(lambda self: any(s.phase is Phase.CONNECTING for s in self.lane.slots))
    @rule(fails=st.booleans())
    def connection_result(self, fails: bool) -> None:
        slot = next(s for s in self.lane.slots if s.phase is Phase.CONNECTING)
        if fails:
            self.lane.closed(slot)
            self.lane.failed("refused", self.now, random=0.5)
        else:
            self.lane.connected(slot, self.now)

    @precondition(lambda self: self.busy)
    @rule(reusable=st.booleans())
    def finish(self, reusable: bool) -> None:
        slot, finished = self.busy.popitem()
        self.done.append(finished)
        self.lane.succeeded()
        if not self.lane.finished(slot, self.now, reusable=reusable):
            self.lane.closed(slot)

    @invariant()
    def limits_hold(self) -> None:
        assert len(self.lane.slots) <= 3
        assert all(slot.sent <= 2 for slot in self.lane.slots)
        assert len(self.lane.window) + len(self.busy) + len(self.done) == self.given


TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
