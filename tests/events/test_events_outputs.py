"""Where events go: files by day, the log, its reopening and reload; and what is lost when they fail."""

import asyncio
import contextlib
import json
import os
import threading

import pytest

from relay.events import log as log_module
from relay.events import writer as writer_module
from relay.events.log import EventLog
from relay_config.schema import Settings


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


def test_lines_for_the_journal_begin_with_their_priority(tmp_path, capfd, monkeypatch):
    status = os.fstat(2)
    for stream, begin in ((f"{status.st_dev}:{status.st_ino}", "<6>time="), (f"{status.st_dev}:1", "time=")):
        monkeypatch.setenv("JOURNAL_STREAM", stream)
        log = EventLog(Settings(hostname="relay.test", data_dir=str(tmp_path)), "supervisor")
        log.process("started", pid=1)
        log.process("child died", name="x")
        log.close()
        lines = capfd.readouterr().err.splitlines()
        assert lines[0].startswith(begin)
        assert lines[1].startswith(begin.replace("6", "3"))


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

    monkeypatch.setattr(os, "write", write)
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

    monkeypatch.setattr(os, "write", write)
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
