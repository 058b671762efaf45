import time

import pytest

from relay_config.check import check
from tests.support.checked import LEAST, said


@pytest.fixture
def report(tmp_path):
    def report(text, environ=None, now=None):
        path = tmp_path / "relay.toml"
        path.write_text(LEAST + text)
        return check(path, environ or {}, time.time() if now is None else now)

    return report


@pytest.fixture
def problems(report, tmp_path):
    return lambda text, **more: said(report(text, **more).problems, tmp_path)


@pytest.fixture
def warnings(report, tmp_path):
    def warnings(text, **more):
        found = report(text, **more)
        assert found.problems == ()
        return said(found.warnings, tmp_path)

    return warnings
