"""The systemd unit: no root, one capability, and a good score where systemd can tell it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "config" / "relay.service"


def options() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_it_never_is_root():
    unit = options()
    assert unit["User"] == ["relay"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert unit["UMask"] == ["0077"]
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["ReadWritePaths"] == ["/var/lib/relay"]


def test_systemd_scores_it_well(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed here")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    score = re.search(r"Overall exposure level for relay.service: (\d+\.\d+)", done.stdout)
    if score is None:
        pytest.skip(f"this systemd cannot judge a file: {done.stderr}")
    assert float(score[1]) <= 2.0, done.stdout
