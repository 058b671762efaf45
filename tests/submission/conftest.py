import pytest

from tests.support.submitting import Submitting


@pytest.fixture
async def world(tmp_path):
    one = Submitting(tmp_path)
    yield one
    one.handler.close()
    await one.queue.aclose()
