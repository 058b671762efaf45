"""What keeps a server from starting is a sentence with a remedy."""

import os
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


def _closed_to_others(path: str) -> bool:
    return any(not folder.stat().st_mode & 0o001 for folder in Path(path).parents)


@pytest.mark.skipif(os.geteuid() != 0 or not _closed_to_others(os.__file__), reason="everybody may read this Python")
def test_a_python_that_the_relays_user_may_not_read_is_told(tmp_path):
    done = Relay(tmp_path, {"user": "nobody"}).run("serve")
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("the user nobody cannot read Python in ")
