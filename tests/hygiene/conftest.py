"""Protocol hygiene, seen from outside: octets over real sockets against one whole relay."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.whole import Whole, whole


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    """The shared relay, with defaults wherever a test does not need otherwise."""
    folder: Path = tmp_path_factory.mktemp("hygiene")
    with whole(folder) as running:
        yield running
        asyncio.run(running.greeted())
        assert "internal error" not in running.log
        assert "Traceback" not in running.log, running.log
