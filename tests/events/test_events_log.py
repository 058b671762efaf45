"""The event log: both outputs, levels, reload, reopening, loss."""

import asyncio
import contextlib
import inspect
import json
import logging
import os
import threading
import warnings

import pytest

from relay.events import log as log_module
from relay.events import writer as writer_module
from relay.events.diagnostics import install
from relay.events.log import EventLog
from relay.events.recorder import Recorder
from relay.smtp.reply import Reply
from relay.smtp.server.handler import Identity, Peer
from relay_config.schema import Log, Settings
from relay_queue.model import Entry, Mark, Message, Recipient
from relay_queue.states import State

ID = "0abcdefghijklmnopqrstuvwxy"


class Clock:
    def __init__(self, now=1_700_000_000.25):
        self.now = now

    def __call__(self):
        return self.now


class Case:
    """An event log with its clock and files."""

    def __init__(self, folder, **log):
        self.folder = folder
        self.clock = Clock()
        self.path = folder / "relay.log"
        self.settings = self.with_log(**log)
        self.log = EventLog(self.settings, "3", clock=self.clock)

    def with_log(self, **log):
        log.setdefault("destination", str(self.path))
        return Settings(hostname="relay.test", data_dir=str(self.folder / "data"), log=Log(**log))

    def lines(self):
        self.log.flush()
        self.log.close()
        return self.path.read_text().splitlines() if self.path.exists() else []

    def stored(self):
        self.log.flush()
        self.log.close()
        files = sorted((self.folder / "data" / "events").iterdir())
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def make(tmp_path):
    (tmp_path / "data").mkdir()
    made = []

    def build(**log):
        made.append(Case(tmp_path, **log))
        return made[-1]

    yield build
    for case in made:
        case.log.close()


MESSAGE = Message(id=ID, received_at=1_699_999_990.0, sender="a@example.com", size=4096, user="app")
RECIPIENTS = [Recipient(message_id=ID, n=n, address=f"r{n}@example.org", domain="example.org") for n in range(25)]
PEER = Peer(
    "192.0.2.1", 4711, "0.0.0.0:587", helo="c.test", tls="TLSv1.3 X", identity=Identity("app", ("example.com",))
)


def mark(state, **more):
    more.setdefault("attempts", 1)
    return Mark(message_id=ID, n=0, owner=0, state=state, at=1_700_000_000.0, **more)


def everything(log):
    """One of each event."""
    log.accepted(Entry(MESSAGE, RECIPIENTS), PEER)
    log.accepted(Entry(MESSAGE, RECIPIENTS[:1]), None)
    log.refused(PEER, "RCPT TO:<x@y>", Reply(550, "5.7.1", "no\nrelaying"))
    log.authenticated(PEER, "app", success=True)
    log.authenticated(PEER, "app", success=False)
    for state in State:
        if state is not State.ACTIVE:
            log.outcome(MESSAGE, RECIPIENTS[0], mark(state, due_at=1_700_000_300.0, reply="text"))
    log.notified("failure", MESSAGE, "dsnid")
    log.lane("mx.example.org", "paused", "refused", 1_700_000_030.25)
    log.lane("mx.example.org", "resumed", "")
    log.steered("hold", 3, "root")
    log.process("started", pid=7, hostname="relay.test")
    log.problem("here", ValueError("boom"))


def test_every_event_of_the_recorder_is_written_at_once_without_a_loop(make):
    case = make(level="debug")
    everything(case.log)
    assert len(case.path.read_text().splitlines()) == 18
    stored = case.stored()
    assert len(stored) == 18
    assert {event["event"] for event in stored} == set(log_module.KINDS) - {"diagnostic", "lines-lost"}
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
    assert len(case.stored()) == 18


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


def test_files_are_private(make):
    case = make()
    case.log.steered("hold", 1, "root")
    events = case.folder / "data" / "events"
    assert events.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in events.iterdir()] == [0o600]
    assert case.path.stat().st_mode & 0o777 == 0o600


def test_stderr_is_the_default(tmp_path, capfd):
    log = EventLog(Settings(hostname="relay.test", data_dir=str(tmp_path)), "supervisor")
    log.process("started", pid=1)
    log.close()
    assert "event=process worker=supervisor what=started pid=1" in capfd.readouterr().err


def test_without_echo_only_the_store_is_written(tmp_path, capfd):
    log = EventLog(Settings(hostname="relay.test", data_dir=str(tmp_path)), "cli", echo=False)
    log.steered("drop", 1, "root")
    log.problem("x", ValueError())
    log.close()
    assert capfd.readouterr().err == ""
    assert len(list((tmp_path / "events").iterdir())) == 1


async def test_on_a_loop_lines_gather_and_come_within_a_moment(make):
    case = make()
    case.log.steered("hold", 1, "root")
    assert not case.path.exists() or case.path.read_text() == ""
    async with asyncio.timeout(10):
        while not case.path.read_text():
            await asyncio.sleep(0.02)
    assert len(case.path.read_text().splitlines()) == 1


async def test_many_lines_and_errors_do_not_wait(make, monkeypatch):
    monkeypatch.setattr(log_module, "_FLUSH_AFTER", 3600)
    case = make()
    for n in range(log_module._FLUSH_AT + 1):
        case.log.steered("hold", n, "root")
    assert len(case.log._store_lines) <= 1
    case.log.problem("x", ValueError("boom"))
    assert not case.log._store_lines
    events = case.stored()
    assert [event["count"] for event in events[:-1]] == list(range(log_module._FLUSH_AT + 1))


async def test_order_is_kept_across_flushes(make):
    case = make(level="error")
    for n in range(5000):
        case.log.steered("hold", n, "root")
        if n % 1000 == 0:
            await asyncio.sleep(0)
    assert [event["count"] for event in case.stored()] == list(range(5000))


def test_a_new_day_is_a_new_file_and_old_days_go(make):
    case = make()
    case.log.steered("hold", 1, "root")
    case.clock.now += 86_400
    case.log.steered("hold", 2, "root")
    case.clock.now += 86_400
    case.log.steered("hold", 3, "root")
    events = case.folder / "data" / "events"
    (events / "notes.txt").touch()
    days = ["2023-11-14-3.jsonl", "2023-11-15-3.jsonl", "2023-11-16-3.jsonl", "notes.txt"]
    assert sorted(path.name for path in events.iterdir()) == days
    assert case.log.prune(case.clock.now - 86_400) == 1
    assert sorted(path.name for path in events.iterdir()) == days[1:]
    assert case.log.prune(case.clock.now + 7 * 86_400) == 2


def test_reopen_after_the_log_was_moved(make):
    case = make()
    case.log.steered("hold", 1, "root")
    case.path.rename(case.folder / "old.log")
    case.log.steered("hold", 2, "root")
    case.log.reopen()
    case.log.steered("hold", 3, "root")
    assert (case.folder / "old.log").read_text().count("event=steered") == 2
    assert case.path.read_text().count("event=steered") == 1


def test_reload_changes_form_level_and_place(make):
    case = make()
    case.log.steered("hold", 1, "root")
    other = case.folder / "other.log"
    case.log.reload(case.with_log(format="json", level="warning", destination=str(other)))
    case.log.steered("hold", 2, "root")
    case.log.lane("mx", "paused", "x")
    assert len(case.path.read_text().splitlines()) == 1
    assert [json.loads(line)["event"] for line in other.read_text().splitlines()] == ["lane"]


def test_a_bad_destination_is_an_error_at_the_start_and_kept_out_on_reload(make, tmp_path):
    bad = str(tmp_path / "no" / "such" / "folder" / "log")
    with pytest.raises(OSError, match="No such file"):
        make(destination=bad)
    case = make()
    case.log.reload(case.with_log(destination=bad, format="json"))
    case.log.steered("hold", 1, "root")
    lines = case.path.read_text().splitlines()
    assert "log not opened" in lines[0]
    assert "event=steered" in lines[1]


def test_a_link_in_the_store_is_not_followed(make):
    case = make()
    events = case.folder / "data" / "events"
    events.mkdir()
    (events / "2023-11-14-3.jsonl").symlink_to(case.folder / "elsewhere")
    case.log.steered("hold", 1, "root")
    case.log.steered("hold", 2, "root")
    assert not (case.folder / "elsewhere").exists()
    assert "event=lines-lost" in case.path.read_text()


def test_a_failing_disk_loses_lines_and_says_so_once_in_a_while(make, monkeypatch):
    case = make(format="json")
    real, broken = os.write, [True]

    def write(file, data):
        if broken[0] and b'"time":1' in bytes(data):
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(writer_module.os, "write", write)
    for n in range(5):
        case.log.steered("hold", n, "root")
    broken[0] = False
    case.clock.now += 11
    case.log.steered("hold", 5, "root")
    lines = [json.loads(line) for line in case.path.read_text().splitlines()]
    assert [line["event"] for line in lines].count("steered") == 6
    told = [line for line in lines if line["event"] == "lines-lost"]
    assert sum(line["count"] for line in told) >= 5
    assert len(told) == 2
    assert case.stored()[0]["count"] == 5


def test_a_line_cut_in_the_middle_does_not_spoil_the_next(make, monkeypatch):
    case = make(level="error")
    real, calls = os.write, []

    def write(file, data):
        calls.append(len(data))
        if len(calls) == 1:
            return real(file, bytes(data)[:10])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(file, data)

    monkeypatch.setattr(writer_module.os, "write", write)
    case.log.steered("hold", 1, "root")
    case.log.steered("hold", 2, "root")
    case.log.close()
    file = next((case.folder / "data" / "events").iterdir())
    lines = file.read_text().splitlines()
    assert lines[0] == '{"time":17'
    assert json.loads(lines[-1])["event"] in {"steered", "lines-lost"}
    assert all(json.loads(line) for line in lines[1:])


async def test_a_pipe_that_nobody_reads_stops_nothing(make, monkeypatch):
    monkeypatch.setattr(writer_module, "_MOST_WAITING", 100_000)
    monkeypatch.setattr(writer_module, "_CLOSE_PATIENCE", 0.05)
    reading, writing = os.pipe()
    monkeypatch.setattr(writer_module, "STDERR", writing)
    case = make(destination="stderr")
    try:
        for n in range(5000):
            case.log.steered("x" * 100, n, "root")
        # A full pipe holds 64 KiB, 100 kB wait; the rest is gone, counted, and the loop was never held up.
        assert case.log._log.lost > 1000
    finally:
        drained = threading.Thread(target=_drain, args=(reading,))
        drained.start()
        await asyncio.sleep(0.05)
        case.log.close()
        os.close(writing)
        drained.join()
        os.close(reading)


def _drain(file):
    with contextlib.suppress(OSError):
        while os.read(file, 65536):
            pass


def _fail(text="boom"):
    raise ValueError(text)


def _problem(log, where="here"):
    try:
        _fail("secret\nline")
    except ValueError as error:
        log.problem(where, error)


def test_a_problem_is_told_with_its_trace_once_a_minute(make):
    case = make()
    for _ in range(10):
        _problem(case.log)
    _problem(case.log, "there")
    case.clock.now += 61
    _problem(case.log)
    problems = case.stored()
    assert [(event["where"], event.get("repeated")) for event in problems] == [
        ("here", None),
        ("there", None),
        ("here", 9),
    ]
    assert problems[0]["error"] == "ValueError: secret\nline"
    assert "in _fail" in problems[0]["trace"]
    assert len(case.lines()) == 3


async def test_problems_may_come_from_other_threads(make):
    case = make()
    case.log.steered("hold", 1, "root")
    await asyncio.to_thread(_problem, case.log)
    await asyncio.sleep(0)
    assert [event["event"] for event in case.stored()] == ["steered", "problem"]


async def test_logging_and_warnings_become_diagnostics(make):
    case = make()
    uninstall = install(case.log)
    try:
        library = logging.getLogger("some.library")
        library.info("not of interest")
        for n in range(3):
            library.warning("number %d\r\nforged", n)
        library.error("bad %s %s", "arguments")
        try:
            _fail()
        except ValueError:
            library.exception("it broke")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    finally:
        uninstall()
    events = case.stored()
    assert [(event["logger"], event["level"]) for event in events] == [
        ("some.library", "warning"),
        ("some.library", "error"),
        ("some.library", "error"),
        ("py.warnings", "warning"),
    ]
    assert events[0]["message"] == "number 0\r\nforged"
    assert events[1]["message"] == "bad %s %s"
    assert "ValueError: boom" in events[2]["trace"]
    assert len(case.lines()) == 4
    assert not any(type(handler).__name__ == "Diagnostics" for handler in logging.getLogger().handlers)
