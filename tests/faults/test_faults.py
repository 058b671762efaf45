"""Every row of the fault table, a few rounds of each. `make faults` runs them for long."""

import tempfile
import time

import pytest

from tests.faults.campaign import HEAD, CannotError, line, perform
from tests.faults.rows import ROWS

QUICK = {
    "kill": 4,
    "kill-supervisor": 1,
    "kill-worker": 2,
    "kill-recovering": 2,
    "power-ext4": 5,
    "power-xfs": 3,
    "power-idle": 2,
    "power-recovering": 2,
    "syscall-kills": 8,
    "input-output-error": 4,
    "crash-states": 100,
    "disk-full": 1,
    "disk-low": 1,
    "no-inodes": 1,
    "descriptors": 1,
    "memory": 3,
    "sigterm": 2,
    "sighup": 10,
    "sigstop": 1,
    "clock-forward": 1,
    "clock-back": 1,
}
"""Rounds; one for every other row."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
async def test_fault(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = ROWS[name]
    try:
        score = await perform(one, QUICK.get(name, 1), seed=1, until=time.monotonic() + 60)
    except CannotError as error:
        pytest.skip(str(error))
    assert score.lost == []
    assert score.wrong == []
    assert score.acknowledged > 0
    assert score.faults > 0
    assert line(one, score).count("|") == HEAD.splitlines()[0].count("|")
