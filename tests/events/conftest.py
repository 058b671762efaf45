import pytest

from tests.support.event_log import Case


@pytest.fixture
def make(tmp_path):
    (tmp_path / "data").mkdir()
    made = []

    def build(**log):
        made.append(Case(tmp_path, **log))
        return made[-1]

    yield build
    for case in made:
        case.log.close()
