"""Workers without a supervisor: only they are ended, and one that others wait for goes first."""

import os
import signal
import subprocess
import sys

import pytest

from relay.process import orphans
from relay.process.lock import acquire, lock_path
from tests.support.running import alive, until

FAMILY = """
import fcntl, os, signal, sys, time
from relay.process.lock import acquire
lock = acquire(sys.argv[1])
turn = os.open(sys.argv[1] + "/writer.lock", os.O_RDWR | os.O_CREAT, 0o600)
ready, told = os.pipe()
children = []
for n in range(2):
    if not (pid := os.fork()):
        os.close(turn)
        turn = os.open(sys.argv[1] + "/writer.lock", os.O_RDWR)
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB) if n else None
        os.write(told, b".")
        while True:
            time.sleep(60)
    children.append(pid)
    os.read(ready, 1)
print(*children, flush=True)
time.sleep(60)
"""


@pytest.fixture
def family(tmp_path):
    """A supervisor with two workers that never end by themselves, the second of which has the turn to write."""
    with subprocess.Popen([sys.executable, "-c", FAMILY, str(tmp_path)], stdout=subprocess.PIPE) as supervisor:
        workers = [int(pid) for pid in supervisor.stdout.readline().split()]
        yield supervisor, workers
        supervisor.kill()
        for pid in workers:
            if alive([pid]):
                os.kill(pid, signal.SIGKILL)


async def test_those_of_a_dead_supervisor_end_the_one_that_holds_up_others_first(tmp_path, family):
    supervisor, (waits, writes) = family
    supervisor.kill()
    supervisor.wait()
    assert orphans.end(tmp_path) == [writes]
    await until(lambda: not alive([writes]))
    assert alive([waits])
    assert orphans.end(tmp_path) == [waits]
    await until(lambda: not alive([waits]))
    with acquire(tmp_path):
        assert orphans.end(tmp_path) == [], "ours is not an orphan"


def test_while_the_supervisor_lives_nobody_is_touched(tmp_path, family):
    supervisor, workers = family
    for number in (signal.SIGSTOP, signal.SIGCONT):
        supervisor.send_signal(number)
        assert orphans.holds(supervisor.pid, lock_path(tmp_path))
        assert orphans.end(tmp_path) == []
    assert all(alive([pid]) for pid in workers)


def test_a_number_that_another_process_has_by_now_holds_nothing(tmp_path, family):
    assert not orphans.holds(os.getpid(), lock_path(tmp_path))
    assert not orphans.holds(2**22 + 1, lock_path(tmp_path))
    assert not orphans.holds(os.getpid(), tmp_path / "missing")
    assert orphans.end(tmp_path / "missing") == []
