import pytest

from tests.support.queues import open_pair, register


@pytest.fixture(params=["memory", "sqlite"])
async def pair(request, tmp_path):
    made = open_pair(request.param, tmp_path / "data")
    await register(made.queue)
    yield made
    await made.aclose()


@pytest.fixture
def queue(pair):
    return pair.queue


@pytest.fixture
def admin(pair):
    return pair.admin


@pytest.fixture
async def sqlite_pair(tmp_path):
    made = open_pair("sqlite", tmp_path / "data")
    await register(made.queue)
    yield made
    await made.aclose()
