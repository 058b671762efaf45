"""Why a recipient waits, in words."""

import pytest

from relay.cli.why import suspended, why
from relay_queue.model import Message, Recipient, Suspension
from relay_queue.states import State

NOW = 1_700_000_000.0
MESSAGE = Message(id="m", received_at=NOW - 60, sender="a@example.test", size=10, user="app")


def recipient(**changes: object) -> Recipient:
    fields: dict[str, object] = {"message_id": "m", "n": 0, "address": "b@x.test", "domain": "x.test", "due_at": NOW}
    return Recipient(**(fields | changes))


def stop(kind: str, value: str, until: float | None = None, number: int = 1) -> Suspension:
    return Suspension(id=number, kind=kind, value=value, reason="maintenance", created_at=NOW, until=until)


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
        ({"state": State.ACTIVE}, "in hand: being sent, or next in line"),
        ({"state": State.ACTIVE, "lane": "mx.x.test"}, "in hand: being sent, or next in line at mx.x.test"),
        ({"state": State.DELIVERED, "reply": "250 ok"}, "delivered, after: 250 ok"),
    ],
)
def test_states_in_words(fields, words):
    assert why(MESSAGE, recipient(**fields), [], NOW) == words


@pytest.mark.parametrize(
    ("stopped", "lane", "matches"),
    [
        (stop("domain", "x.test"), None, True),
        (stop("domain", "y.test"), None, False),
        (stop("user", "app"), None, True),
        (stop("user", "other"), None, False),
        (stop("site", "*.x.test"), "mx.x.test", True),
        (stop("site", "*.x.test"), None, False),
        (stop("domain", "x.test", until=NOW - 1), None, False),
        (stop("domain", "x.test", until=NOW + 1), None, True),
    ],
)
def test_suspensions_match(stopped, lane, matches):
    assert (suspended(MESSAGE, recipient(lane=lane), [stopped], NOW) is not None) is matches


def test_a_suspension_explains_the_wait():
    words = why(MESSAGE, recipient(), [stop("domain", "x.test", until=NOW + 7200)], NOW)
    assert words == "suspended for another 2 h (domain x.test: maintenance)"


def test_the_longest_suspension_counts():
    stops = [stop("domain", "x.test", NOW + 60, 1), stop("user", "app", None, 2), stop("domain", "x.test", NOW + 90, 3)]
    chosen = suspended(MESSAGE, recipient(), stops, NOW)
    assert chosen is not None
    assert chosen.id == 2
    assert "until removed" in why(MESSAGE, recipient(), stops, NOW)


def test_a_suspension_does_not_explain_what_is_held():
    held = recipient(state=State.HELD)
    assert why(MESSAGE, held, [stop("domain", "x.test")], NOW) == "held until released"
