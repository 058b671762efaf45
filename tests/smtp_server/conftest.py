import asyncio

import uvloop


def pytest_asyncio_loop_factories():
    """Production runs on uvloop, the fallback is asyncio: what holds here must hold on both."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
