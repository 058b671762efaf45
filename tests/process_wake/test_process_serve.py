"""What keeps a server from starting is a sentence with a remedy."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.process.serve import LogError, _open_log
from relay_config.schema import Log, Settings
from tests.support.running import Relay


def test_a_log_that_cannot_be_opened_names_the_user_and_the_remedy(tmp_path):
    path = tmp_path / "no" / "such" / "relay.log"
    settings = Settings(hostname="a.test", data_dir=str(tmp_path), user="nobody", log=Log(destination=str(path)))
    with pytest.raises(LogError) as caught:
        _open_log(settings)
    assert str(caught.value) == (
        f"log: {path} cannot be opened: No such file or directory; "
        f"give the user nobody a folder for it: install -d -m 0700 -o nobody {path.parent}"
    )


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that other users can reach, as pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="relay-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")
def test_a_folder_that_the_relays_user_cannot_reach_is_told(reachable):
    closed = reachable / "closed"
    closed.mkdir(mode=0o700)
    done = Relay(closed, {"user": "nobody"}).run("serve")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(
        f"relay cannot start: {closed}/data: permission denied ({closed} belongs to root, and this runs as nobody); "
    )


def _closed_to_others(path: str) -> bool:
    return any(not folder.stat().st_mode & 0o001 for folder in Path(path).parents)


@pytest.mark.skipif(os.geteuid() != 0 or not _closed_to_others(os.__file__), reason="everybody may read this Python")
def test_a_python_that_the_relays_user_may_not_read_is_told(reachable):
    done = Relay(reachable, {"user": "nobody"}).run("serve")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("the user nobody cannot read Python in ")
