"""One server per data folder."""

import os
import signal
import subprocess
import sys

import pytest

from relay.process.lock import AlreadyRunningError, acquire, holder

HOLD = """
import sys
from relay.process.lock import acquire
lock = acquire(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_nobody_holds_a_new_folder(tmp_path):
    assert holder(tmp_path) is None
    assert holder(tmp_path / "missing") is None


def test_the_lock_names_its_holder_until_released(tmp_path):
    with acquire(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunningError) as caught:
            acquire(str(tmp_path))
        assert caught.value.pid == os.getpid()
        assert str(tmp_path) in str(caught.value)
        assert str(os.getpid()) in str(caught.value)
    assert holder(tmp_path) is None
    lock = acquire(tmp_path)
    lock.release()
    lock.release()


def test_files_are_private(tmp_path):
    with acquire(tmp_path):
        assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "run" / "lock").stat().st_mode & 0o777 == 0o600


def test_a_killed_holder_leaves_no_lock(tmp_path, other):
    assert holder(tmp_path) == other.pid
    with pytest.raises(AlreadyRunningError) as caught:
        acquire(tmp_path)
    assert caught.value.pid == other.pid
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert holder(tmp_path) is None
    with acquire(tmp_path):
        assert holder(tmp_path) == os.getpid()


def test_a_link_in_its_place_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        acquire(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_nonsense_inside_is_an_unknown_holder(tmp_path):
    with acquire(tmp_path):
        (tmp_path / "run" / "lock").write_text("²³ x")
        assert holder(tmp_path) == 0
        with pytest.raises(AlreadyRunningError, match="already running"):
            acquire(tmp_path)
