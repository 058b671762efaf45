from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.queues import Pair, open_pair


@pytest.fixture(params=["memory", "sqlite"])
async def pair(request, tmp_path: Path) -> AsyncIterator[Pair]:
    made = open_pair(request.param, tmp_path / "queue")
    yield made
    await made.aclose()
