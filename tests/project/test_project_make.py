"""`make run`: quiet, and with nothing that only development needs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.source_tree import ROOT

PIN = re.compile(r"([a-z0-9-]+)==(\S+)( ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def pins(name: str) -> dict[str, str]:
    """The versions in a requirements file, which must hold nothing but pins with their hashes."""
    found: dict[str, str] = {}
    hashed = True
    for line in (ROOT / name).read_text().splitlines():
        if match := PIN.fullmatch(line):
            assert hashed, f"{name}: something before {line} has no hash"
            found[match[1]] = match[2]
            hashed = False
        elif line and not line.startswith("#"):
            # `make lock` on a machine with its own package sources must not write them down.
            assert HASH.fullmatch(line), f"{name}: {line}"
            hashed = True
    assert hashed
    return found


def wanted(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9-]", requirement)[0].lower() for requirement in requirements}


def test_requirements_are_pins_with_hashes_and_running_needs_no_tools():
    run, dev = pins("requirements.txt"), pins("requirements-dev.txt")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed, tools = project["project"]["dependencies"], project["project"]["optional-dependencies"]["dev"]
    backend = wanted(project["build-system"]["requires"])
    assert wanted(needed) | backend <= run.keys()
    assert wanted(tools) <= dev.keys()
    assert not (wanted(tools) - backend) & run.keys()
    assert run.items() <= dev.items(), "both fix the same versions"


FAKE_PYTHON = """\
#!/bin/bash
# Stands for the Python that make finds and for that of the environment: says what is asked of it, and does the least.
echo "python $*" >> "$CALLS"
if [[ "$1 $2" == "-m venv" ]]; then
  mkdir -p "$3/bin"
  cp "$0" "$3/bin/python"
  { echo '#!/bin/bash'
    echo 'echo "relay $*" >> "$CALLS"'
    echo '[[ "$1" != init ]] || { mkdir sandbox; touch sandbox/relay.toml; }'
  } > "$3/bin/relay"
  chmod +x "$3/bin/relay"
fi
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "fake-python").write_text(FAKE_PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    return tmp_path


def make(checkout: Path, target: str) -> tuple[list[str], list[str]]:
    """(lines that were shown, commands that were run)."""
    calls = checkout / "calls"
    calls.write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PIP_"))}
    environment |= {"PYTHON": str(checkout / "fake-python"), "CALLS": str(calls)}
    done = subprocess.run(
        ["make", target], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    commands = [line for line in calls.read_text().splitlines() if not line.startswith("python -c")]
    return done.stdout.splitlines(), commands


def test_make_run_says_a_line_for_each_step_and_installs_no_tools(checkout):
    shown, commands = make(checkout, "run")
    count = len(pins("requirements.txt"))
    assert shown == ["Creating .venv", f"Installing {count} packages", "Making sandbox"]
    assert [command for command in commands if "requirements-dev" in command] == []
    assert [command for command in commands if "--require-hashes" in command] != []
    assert commands[-2:] == ["relay init --sandbox sandbox", "relay -c sandbox/relay.toml serve"]
    shown, commands = make(checkout, "run")
    assert (shown, commands) == ([], ["relay -c sandbox/relay.toml serve"])


def test_make_lint_installs_the_rest(checkout):
    make(checkout, "run")
    (checkout / ".venv" / "bin" / "ruff").symlink_to("/bin/true")
    (checkout / ".venv" / "bin" / "mypy").symlink_to("/bin/true")
    shown, commands = make(checkout, "lint")
    more = len(pins("requirements-dev.txt").keys() - pins("requirements.txt").keys())
    assert shown[0] == f"Installing {more} packages for development"
    assert [command for command in commands if "pip install" in command] == [
        "python -m pip install -qq --require-hashes --requirement requirements-dev.txt"
    ]
    _, commands = make(checkout, "lint")
    assert commands == []
    os.utime(checkout / "requirements-dev.txt")
    _, commands = make(checkout, "run")
    assert commands == ["relay -c sandbox/relay.toml serve"], "tools are no matter of running"


def test_pip_is_told_to_be_quiet():
    text = (ROOT / "Makefile").read_text()
    assert "export PIP_DISABLE_PIP_VERSION_CHECK := 1" in text
    assert sys.version_info >= (3, 11), "as FIND_PYTHON wants"
