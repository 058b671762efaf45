import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel"), pytest.mark.timeout(300)]


def run(*command, cwd, **more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RELAY_", "COV"))}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist of the tree, and the wheel built from that sdist: what a release would be."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A fresh environment with the wheel, and the libraries (not the checkout) of the running one."""
    folder = tmp_path_factory.mktemp("env")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin/python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", built[1], cwd=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file does not run the .pth files there: the editable install of the checkout stays unseen.
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def test_the_wheel_holds_the_packages_and_their_data(built):
    names = set(zipfile.ZipFile(built[1]).namelist())
    expected = set()
    for root, folder in (("", "relay"), ("queue/", "relay_queue"), ("config/", "relay_config")):
        for pattern in ("*.py", "*.sql", "*.toml", "py.typed"):
            expected |= {str(file.relative_to(ROOT / root)) for file in (ROOT / root / folder).rglob(pattern)}
    assert expected <= names
    assert any(name.endswith(".sql") for name in expected)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "relay",
        "relay_queue",
        "relay_config",
    }


def test_the_sdist_holds_what_the_tests_need(built):
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "relay.toml.example",
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
        "requirements.txt",
        "requirements-dev.txt",
    } <= names
    assert not [name for name in names if name.startswith((".venv", "sandbox/"))]


def test_the_wheel_runs_outside_the_checkout(installed, tmp_path):
    from relay import __version__

    assert __version__ in run(installed / "bin/relay", "--version", cwd=tmp_path)
    code = "import relay, relay_queue, relay_config; print(relay.__file__, relay_queue.__file__, relay_config.__file__)"
    for file in run(installed / "bin/python", "-c", code, cwd=tmp_path).split():
        assert Path(file).is_relative_to(installed)


def test_the_wheel_opens_a_queue_and_sets_up_a_sandbox(installed, tmp_path):
    relay = installed / "bin/relay"
    run(relay, "init", "--sandbox", tmp_path / "sandbox", cwd=tmp_path, stdin=subprocess.DEVNULL)
    run(relay, "-c", tmp_path / "sandbox/relay.toml", "check", cwd=tmp_path)
    code = f"import pathlib, relay_queue.sqlite as q; q.open_admin(pathlib.Path({str(tmp_path)!r})).close()"
    run(installed / "bin/python", "-c", code, cwd=tmp_path)
