"""The event log: what its lines say, in both outputs."""

import inspect
import json

import pytest

from relay.events import log as log_module
from relay.events.log import EventLog
from relay.events.recorder import Recorder
from relay.smtp.reply import Reply
from relay_queue.model import Entry
from relay_queue.states import State
from tests.support.event_log import ID, MESSAGE, PEER, RECIPIENTS, everything, mark


def test_every_event_of_the_recorder_is_written_at_once_without_a_loop(make):
    case = make(level="debug")
    everything(case.log)
    assert len(case.path.read_text().splitlines()) == 19
    stored = case.stored()
    assert len(stored) == 19
    assert {event["event"] for event in stored} == set(log_module.KINDS) - {"diagnostic", "lines-lost", "omitted"}
    assert all(event["time"] == 1_700_000_000.25 and event["worker"] == "3" for event in stored)
    public = {name for name, _ in inspect.getmembers(Recorder, inspect.isfunction) if not name.startswith("_")}
    assert public <= set(vars(EventLog))


def test_an_accepted_message(make):
    case = make()
    case.log.accepted(Entry(MESSAGE, RECIPIENTS), PEER)
    event = case.stored()[0]
    assert event == {
        "time": 1_700_000_000.25,
        "level": "info",
        "event": "accepted",
        "worker": "3",
        "id": ID,
        "from": "a@example.com",
        "to": [f"r{n}@example.org" for n in range(20)],
        "count": 25,
        "size": 4096,
        "origin": "smtp",
        "user": "app",
        "peer": "192.0.2.1",
        "helo": "c.test",
        "listener": "0.0.0.0:587",
        "tls": "TLSv1.3 X",
    }


def test_a_lane_s_pause(make):
    case = make()
    for until in (1_700_000_030.25, None, 0.0, 1_600_000_000.0):
        case.log.lane("mx.example.org", "paused", "refused", until)
    assert [event.get("wait") for event in case.stored()] == [30.0, None, None, None]


def test_a_logfmt_line(make):
    case = make()
    more = {"failure": "greylisted", "lane": "mx", "remote": "h[1]"}
    case.log.outcome(
        MESSAGE, RECIPIENTS[0], mark(State.QUEUED, due_at=1_700_000_300.0, reply="451 4.7.1 later", **more)
    )
    expected = (
        f"time=2023-11-14T22:13:20.250Z level=info event=deferred worker=3 id={ID} n=0 from=a@example.com "
        "to=r0@example.org attempts=1 delay=10.000 user=app lane=mx remote=h[1] "
        'reply="451 4.7.1 later" failure=greylisted wait=300.000'
    )
    assert case.lines() == [expected]


def test_json_lines_differ_in_the_time_only(make):
    case = make(format="json", level="debug")
    everything(case.log)
    lines = [json.loads(line) for line in case.lines()]
    stored = case.stored()
    assert {line.pop("time") for line in lines} == {"2023-11-14T22:13:20.250Z"}
    assert {event.pop("time") for event in stored} == {1_700_000_000.25}
    assert lines == stored


@pytest.mark.parametrize(("level", "least"), [("warning", {"warning", "error"}), ("error", {"error"})])
def test_the_level_filters_the_log_and_not_the_store(make, level, least):
    case = make(level=level, format="json")
    everything(case.log)
    assert {json.loads(line)["level"] for line in case.lines()} == least
    assert len(case.stored()) == 19


def test_remote_text_cannot_forge_a_line(make):
    for form in ("logfmt", "json"):
        case = make(format=form)
        case.log.refused(
            PEER, "EHLO x\r\ntime=0 event=delivered", Reply(501, "5.5.4", "\x1b[2J\u202e\u2028event=delivered")
        )
        lines = case.lines()
        case.path.unlink()
        assert len(lines) == 1
        assert lines[0].isprintable()


def test_no_secret_is_written(make):
    case = make()
    case.log.refused(PEER, "AUTH PLAIN AHVzZXIAc2VjcmV0", Reply(535, "5.7.8", "no"))
    case.log.refused(PEER, "auth login c2VjcmV0", Reply(535, "5.7.8", "no"))
    assert "c2VjcmV0" not in case.path.read_text()
    assert "AHVz" not in case.path.read_text()
    assert [event["command"] for event in case.stored()] == ["AUTH", "AUTH"]
