"""The parts of the benchmarks that decide whether a number is right."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import tree
from bench.catalog import BENCHMARKS
from bench.folder import filesystem, working_folder
from bench.table import table
from bench.traffic import Sink
from bench.words import BenchError, Row, Sample, Target

DOCS = Path(__file__).parents[2] / "docs/performance.md"
BURN = "import time\nwhile time.process_time() < 0.3: pass"
BURN_IN_CHILD = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}])
print("done", flush=True)
input()
"""


def test_every_benchmark_is_documented():
    text = DOCS.read_text()
    assert [name for name in BENCHMARKS if f"`{name}`" not in text] == []


def test_cpu_of_a_child_that_ended_is_counted():
    command = [sys.executable, "-c", BURN_IN_CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"done\n"
        assert list(tree.descent(process.pid)) == [process.pid]
        assert tree.cpu_seconds(process.pid) >= 0.28
        assert tree.resident(process.pid) >= tree.proportional(process.pid) > 0
        process.communicate(b"\n")


def test_a_living_child_belongs_to_its_parent():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in tree.descent(os.getpid())
        process.communicate(b"\n")


def test_sink_reads_the_last_counter(tmp_path):
    log = tmp_path / "log"
    log.write_bytes(b"sess=    20 quit=     0 mesg=     9\rsess=    20 quit=     3 mesg=  1234\r")
    assert Sink(25, log).count() == 1234
    log.write_bytes(b"")
    assert Sink(25, log).count() == 0


@pytest.mark.parametrize(
    ("ours", "other", "target", "met"),
    [
        ([10.0, 12.0, 50.0], [2.0, 3.0, 4.0], Target("ratio", 4), True),
        ([10.0, 12.0, 50.0], [2.0, 3.0, 4.0], Target("ratio", 4.1), False),
        ([10.0, 12.0, 50.0], [], Target("ratio", 1), None),
        ([0.4], [2.0], Target("value", 0.5, at_least=False), True),
        ([0.6], [2.0], Target("value", 0.5, at_least=False), False),
        ([0.6], [2.0], None, None),
    ],
)
def test_targets_are_judged_by_medians(ours, other, target, met):
    row = Row("name", "what", "unit", ours, other, target=target)
    assert row.met is met
    assert ("MISSED" in table([row])) is (met is False)


def test_a_sample_tells_rate_and_cpu_of_each_message():
    sample = Sample(messages=200, seconds=4.0, cpu=0.1)
    assert (sample.rate, sample.cpu_each) == (50.0, 0.5)


def test_memory_is_no_disk():
    if filesystem(Path("/dev/shm")) != "tmpfs":
        pytest.skip("no tmpfs here")
    with pytest.raises(BenchError, match="in memory"), working_folder(Path("/dev/shm"), keep=False):
        pass


def test_folder_goes_away():
    with working_folder(None, keep=False) as folder:
        assert folder.stat().st_mode & 0o777 == 0o755
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="Postfix starts as root only")
def test_folder_that_postfix_could_not_enter(tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(BenchError, match="closed to Postfix"), working_folder(tmp_path, keep=False):
        pass
    assert list(tmp_path.iterdir()) == []
