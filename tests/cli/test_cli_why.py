"""Why a recipient waits, in words."""

import pytest

from relay.cli.waiting import together
from relay.cli.why import Around, suspended, why
from relay.delivery.report_records import LaneReport, OnWire, Piece
from relay_queue.model import Message, Recipient, Suspension
from relay_queue.states import State

NOW = 1_700_000_000.0
MESSAGE = Message(id="m", received_at=NOW - 60, sender="a@example.test", size=10, user="app")
REMOTE = "mx.x.test[192.0.2.1]:25"


def recipient(**changes: object) -> Recipient:
    fields: dict[str, object] = {"message_id": "m", "n": 0, "address": "b@x.test", "domain": "x.test", "due_at": NOW}
    return Recipient(**(fields | changes))


def stop(kind: str, value: str, until: float | None = None, number: int = 1) -> Suspension:
    return Suspension(id=number, kind=kind, value=value, reason="maintenance", created_at=NOW, until=until)


def wire(lasts: float, stage: str = "MAIL") -> OnWire:
    return OnWire(Piece("m", (0,)), REMOTE, NOW - lasts, stage)


def lane(**fields: object) -> LaneReport:
    return LaneReport("mx.x.test", **fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "first attempt due now"),
        ({"due_at": NOW + 90}, "first attempt in 1 min 30 s"),
        (
            {"attempts": 2, "due_at": NOW + 3600, "reply": "450 4.2.0 busy"},
            "attempt 3 in 1 h, after: 450 4.2.0 busy",
        ),
        ({"attempts": 1, "due_at": NOW - 1, "reply": "timeout"}, "attempt 2 due now, after: timeout"),
        ({"state": State.HELD}, "held until released"),
        ({"state": State.HELD, "reason": "by hand"}, "held until released (by hand)"),
        ({"state": State.HELD, "reason": "x", "reply": "450 busy"}, "held until released (x), after: 450 busy"),
        ({"state": State.QUARANTINED, "reply": "size"}, "set aside, its stored form is damaged, after: size"),
        ({"state": State.ACTIVE}, "claimed by a worker: being sent, or next in line"),
        ({"state": State.ACTIVE, "lane": "mx.x.test"}, "claimed by a worker: being sent, or next in line at mx.x.test"),
        ({"state": State.DELIVERED, "reply": "250 ok"}, "delivered, after: 250 ok"),
    ],
)
def test_states_in_words(fields, words):
    assert why(recipient(**fields), Around(), NOW) == words


@pytest.mark.parametrize(
    ("around", "words"),
    [
        (Around(wire=wire(1)), f"being sent to {REMOTE}"),
        (Around(wire=wire(70)), f"being sent to {REMOTE} for 1 min 10 s, which has not answered MAIL yet"),
        (
            Around(wire=wire(70, "message")),
            f"being sent to {REMOTE} for 1 min 10 s, which has not taken the whole message yet",
        ),
        (
            Around(wire=wire(70, "end")),
            f"being sent to {REMOTE} for 1 min 10 s, which has not confirmed the message yet",
        ),
        (Around(lane=lane(), place=1), "next in line for mx.x.test"),
        (
            Around(lane=lane(limit="rate", rate="6/m"), place=4),
            "number 4 in line for mx.x.test, where at most 6/m are sent",
        ),
        (
            Around(lane=lane(limit="connections", wire=[wire(1), wire(70)]), place=2),
            "number 2 in line for mx.x.test, whose connections are all busy, the longest for 1 min 10 s",
        ),
        (
            Around(lane=lane(limit="connections", connecting_since=NOW - 20), place=1),
            "next in line for mx.x.test, to which a connection is being opened for 20 s",
        ),
        (
            Around(lane=lane(paused_until=NOW + 30, cause="421 too many"), place=1),
            "next in line for mx.x.test, paused for another 30 s, after: 421 too many",
        ),
        (Around(running=False), "claimed by a worker that no longer runs: tried again when the relay is started"),
        (
            Around(running=False, wire=wire(1), lane=lane(), place=1),
            "claimed by a worker that no longer runs: tried again when the relay is started",
        ),
    ],
)
def test_what_a_worker_has_claimed(around, words):
    assert why(recipient(state=State.ACTIVE), around, NOW) == words


@pytest.mark.parametrize(
    ("fields", "around", "words"),
    [
        ({}, Around(lane=lane()), "first attempt due now"),
        (
            {},
            Around(lane=lane(limit="rate", rate="1/s", waiting=10), ahead=1234),
            "first attempt due now, about 1,234 ahead of it for mx.x.test, where at most 1/s are sent",
        ),
        (
            {},
            Around(lane=lane(limit="rate", rate="1/s", waiting=10), ahead=100_010),
            "first attempt due now, more than 100,000 ahead of it for mx.x.test, where at most 1/s are sent",
        ),
        (
            {"attempts": 1, "reply": "450 busy"},
            Around(lane=lane(limit="connections", waiting=1, wire=[wire(8)]), ahead=3),
            "attempt 2 due now, about 3 ahead of it for mx.x.test, whose connections are all busy, the longest for 8 s",
        ),
        (
            {"due_at": NOW + 60},
            Around(lane=lane(limit="rate", rate="1/s", waiting=10), ahead=9),
            "first attempt in 1 min",
        ),
        (
            {},
            Around(lane=lane(paused_until=NOW + 90, cause="connection refused")),
            "first attempt in 1 min 30 s: deliveries to mx.x.test are paused, after: connection refused",
        ),
        ({}, Around(lane=lane(paused_until=NOW - 1, cause="connection refused")), "first attempt due now"),
        (
            {"due_at": NOW + 90},
            Around(stop=stop("site", "mx.*"), lane=lane(paused_until=NOW + 90)),
            "suspended until removed (site mx.*: maintenance)",
        ),
    ],
)
def test_what_waits_in_the_queue(fields, around, words):
    assert why(recipient(**fields), around, NOW) == words


@pytest.mark.parametrize(
    ("stopped", "at", "matches"),
    [
        (stop("domain", "x.test"), None, True),
        (stop("domain", "y.test"), None, False),
        (stop("user", "app"), None, True),
        (stop("user", "other"), None, False),
        (stop("site", "*.x.test"), "mx.x.test", True),
        (stop("site", "mx.x.test"), "a.test,mx.x.test", True),
        (stop("site", "hub.test:25"), "hub.test:25#required/x.test", True),
        (stop("site", "*.x.test"), None, False),
        (stop("domain", "x.test", until=NOW - 1), None, False),
        (stop("domain", "x.test", until=NOW + 1), None, True),
    ],
)
def test_suspensions_match(stopped, at, matches):
    assert (suspended(MESSAGE, recipient(), at, [stopped], NOW) is not None) is matches


def test_a_suspension_explains_the_wait():
    words = why(recipient(), Around(stop=stop("domain", "x.test", until=NOW + 7200)), NOW)
    assert words == "suspended for another 2 h (domain x.test: maintenance)"


def test_the_longest_suspension_counts():
    stops = [stop("domain", "x.test", NOW + 60, 1), stop("user", "app", None, 2), stop("domain", "x.test", NOW + 90, 3)]
    chosen = suspended(MESSAGE, recipient(), None, stops, NOW)
    assert chosen is not None
    assert chosen.id == 2


def test_a_suspension_does_not_explain_what_is_held():
    assert why(recipient(state=State.HELD), Around(stop=stop("domain", "x.test")), NOW) == "held until released"


def test_two_shares_of_a_lane():
    one = lane(paused_until=NOW + 9, cause="a", waiting=2, rate="10/s", connecting_since=NOW - 3)
    other = lane(paused_until=NOW + 5, cause="b", waiting=1, limit="rate", wire=[wire(1)], connecting_since=NOW - 8)
    both = together(one, other)
    assert (both.paused_until, both.waiting, both.limit, both.connecting_since) == (NOW + 5, 3, "rate", NOW - 8)
    assert together(one, lane()).paused_until == 0, "the other share goes on"
