"""For tests as root with a real unprivileged user: folders that it can reach, and a Python that it can run."""

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.process.privileges import Identity
from tests.support.running import CLEAN
from tests.support.source_tree import ROOT

NAME = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who can become another user")


def nobody() -> Identity:
    """The unprivileged user."""
    record = pwd.getpwnam(NAME)
    return Identity(record.pw_uid, record.pw_gid, ())


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder of root's that other users can reach, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="relay-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def folder_of_nobody(path: Path) -> Path:
    """A new private folder of the unprivileged user's."""
    path.mkdir(mode=0o700)
    os.chown(path, nobody().uid, nobody().gid)
    return path


@functools.cache
def python() -> tuple[str, dict[str, str]]:
    """(interpreter, environment) with which the unprivileged user can run the relay; skips where there is none."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environ = CLEAN | {"PYTHONPATH": os.pathsep.join([str(ROOT), f"{ROOT}/queue", f"{ROOT}/config", *packages])}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if not Path(candidate).exists():
            continue
        command = [candidate, "-c", "import relay.process.serve, relay.process.worker, relay.cli"]
        with contextlib.suppress(PermissionError, subprocess.CalledProcessError):
            subprocess.run(
                command,
                env=environ,
                cwd="/",
                capture_output=True,
                check=True,
                user=NAME,
                group=nobody().gid,
                extra_groups=[],
            )
            return candidate, environ
    pytest.skip(f"the user {NAME} cannot run the relay here")
