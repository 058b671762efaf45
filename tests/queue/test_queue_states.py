"""The table of states, the picture drawn from it, and the decisions that must keep to it."""

import itertools
import re
from pathlib import Path

import pytest

from relay_queue.decide import MARKABLE, given_back, settle, steered
from relay_queue.model import Mark
from relay_queue.protocol import Action
from relay_queue.states import FINAL, LIVE, TRANSITIONS, State, allowed

PICTURE = Path(__file__).parents[2] / "docs" / "internals" / "states.md"
WISHES = [None, Action.HOLD, Action.DROP, Action.FAIL]


def test_the_picture_shows_the_table():
    text = PICTURE.read_text(encoding="utf-8")
    drawn = set(re.findall(r"^ {4}(\w+) --> (\w+)", text, re.MULTILINE))
    table = {(before.word, after.word) for before, afters in TRANSITIONS.items() for after in afters}
    assert drawn == table
    assert set(re.findall(r"^ {4}(\w+) --> \[\*\]", text, re.MULTILINE)) == {state.word for state in FINAL}
    for state in State:
        assert f"| `{state.word}` |" in text


@pytest.mark.parametrize(("state", "wish"), list(itertools.product(LIVE, WISHES)))
def test_every_decision_keeps_to_the_table(state, wish):
    for marked in MARKABLE:
        mark = Mark(message_id="", n=0, owner=1, state=marked, at=0, attempts=1)
        after = settle(state, 1, wish, mark)
        assert after is None or (state is State.ACTIVE and allowed(state, after))
        assert settle(state, 2, wish, mark) is None
    assert allowed(State.ACTIVE, given_back(wish))
    for action in Action:
        after = steered(action, state)
        assert after in {None, state} or allowed(state, after)
        assert state is not State.ACTIVE or after is None


def test_final_states_are_final():
    assert {State.DELIVERED, State.FAILED, State.EXPIRED, State.DROPPED} == FINAL
    assert State.ACTIVE in LIVE
