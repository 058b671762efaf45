"""docs/security.md names tests: they exist, under the names it gives."""

import re
from pathlib import Path

import pytest

from tests.fuzz.targets import PURE
from tests.fuzz.targets_io import IO

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [row for row in PAGE.splitlines() if row.startswith("| ") and ("/test_" in row or "`…`" in row)]


def test_it_has_rows():
    assert len(ROWS) > 40


def test_every_file_exists():
    for area, name in re.findall(r"`([a-z_0-9]+)/(test_[a-z_0-9]+)`", PAGE):
        assert (ROOT / "tests" / area / f"{name}.py").is_file(), f"{area}/{name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_every_test_exists(row: str):
    sources = "".join(path.read_text() for path in (ROOT / "tests").glob("*/test_*.py"))
    names = {target.name for target in PURE + IO}
    shown = row.rsplit(" | ", maxsplit=1)[-1]
    for word in re.findall(r"`([a-z][a-z_0-9]+)…?`", shown):
        assert f"test_{word}" in sources or word in names or word == "fuzz", word


def test_it_counts_right():
    from tests.hygiene.test_hygiene_receivers import SCRIPTS
    from tests.hygiene.test_hygiene_relaying import FORMS
    from tests.support.smuggling import VARIANTS

    assert f"| {len(FORMS)} forms of an address" in PAGE
    assert f"| {len(SCRIPTS)} receivers that misbehave" in PAGE
    assert f"| {len(VARIANTS)} sequences that" in PAGE
    assert f"{len(PURE + IO)} targets" in PAGE
