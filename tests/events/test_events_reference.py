"""The manual's page on events is what the code says."""

from pathlib import Path

import pytest

from relay.events.catalog import KINDS
from relay.events.limiter import Limiter
from relay.events.reference import page

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date():
    written = (ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m relay.events.reference > docs/reference/events.md"


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_event_has_its_section_and_every_field(kind):
    section = page().split(f"## {kind.name}\n")[1].split("\n## ")[0]
    assert f"Severity: {kind.level.name.lower()}." in section
    for name in kind.record.__struct_encode_fields__:
        assert f"| `{name}` | " in section


def test_the_limiter_is_bounded_and_counts():
    limiter = Limiter()
    assert limiter.count("a", 0.0) == 0
    assert limiter.count("a", 59.0) is None
    assert limiter.count("a", 60.0) == 1
    assert limiter.count("a", 10.0) == 0, "a clock set back does not silence it"
    for n in range(5000):
        limiter.count(n, 0.0)
    assert len(limiter._seen) <= 1000
