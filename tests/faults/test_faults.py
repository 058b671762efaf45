"""Every row of the fault table, a few rounds of each. `make faults` runs them for long."""

import tempfile

import pytest

from tests.faults.campaign import HEAD, CannotError, Row, line, segment
from tests.faults.rows import ROWS
from tests.faults.schedule import Progress, Schedule, table

QUICK = {
    "kill": 4,
    "kill-supervisor": 1,
    "kill-worker": 2,
    "kill-recovering": 2,
    "power-ext4": 5,
    "power-xfs": 3,
    "power-ext4-idle": 2,
    "power-xfs-idle": 1,
    "power-ext4-recovering": 2,
    "power-xfs-recovering": 1,
    "syscall-kills": 8,
    "batch-kills": 5,
    "input-output-error": 4,
    "crash-states": 100,
    "disk-full": 1,
    "disk-low": 1,
    "no-inodes": 1,
    "descriptors": 1,
    "memory": 3,
    "flapping": 3,
    "sigterm": 2,
    "sighup": 10,
    "sigstop": 1,
    "hung-orphan": 2,
    "clock-forward": 1,
    "clock-back": 1,
    "clock-back-stopped": 1,
}
"""Rounds; one for every other row."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, one in ROWS.items() if not one.long])
def test_fault(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = ROWS[name]
    try:
        score, _ = segment(one, QUICK.get(name, 1), seed=1)
    except CannotError as error:
        pytest.skip(str(error))
    assert score.lost == []
    assert score.wrong == []
    assert score.acknowledged > 0
    assert score.faults > 0
    assert line(one, score).count("|") == HEAD.splitlines()[0].count("|")


def test_a_campaign_keeps_what_it_measured_and_tells_what_broke(monkeypatch):
    """Segments in processes of their own: of two rows, one breaks off after its first segment."""
    monkeypatch.setitem(ROWS, "gone", Row("gone", "a row that no process knows", ROWS["upgrade"].run))
    campaign = [Progress(ROWS["upgrade"], 1), Progress(ROWS["gone"], 1)]
    told: list[str] = []
    Schedule(campaign, jobs=2, seed=0, minutes=10).run(lambda progress, _: told.append(progress.row.name))
    assert sorted(told) == ["gone", "upgrade"]
    assert campaign[0].clean
    assert not campaign[1].clean
    lines = table(campaign).splitlines()
    assert lines[2].startswith("| the data folder of each earlier schema")
    assert "(broke off: CalledProcessError" in lines[3]
