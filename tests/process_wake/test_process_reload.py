"""Reloading without stopping the loop: in a thread, one at a time, asked for as often as anybody likes."""

import asyncio
import threading

from relay.process.reload import Reloader


class Files:
    """What is to be loaded; each load waits until it is let go."""

    def __init__(self):
        self.content = 0
        self.loads = 0
        self.go = threading.Semaphore(0)
        self.in_force = []
        self.refused = []
        self.reloader = Reloader(self.prepare, self.in_force.append, self.refused.append)

    def prepare(self):
        self.loads += 1
        content = self.content
        assert self.go.acquire(timeout=30)
        if content < 0:
            raise ValueError(content)
        return content


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


async def test_the_loop_goes_on_and_the_old_stays_in_force_while_the_new_is_loaded():
    files = Files()
    files.content = 1
    files.reloader.ask()
    await until(lambda: files.loads)
    await asyncio.sleep(0.05)
    assert files.in_force == []
    files.go.release()
    await until(lambda: files.in_force == [1])


async def test_what_is_asked_for_meanwhile_is_done_once_and_sees_the_newest():
    files = Files()
    files.reloader.ask()
    await until(lambda: files.loads)
    for files.content in range(1, 6):
        files.reloader.ask()
    files.go.release(10)
    await until(lambda: files.in_force[-1:] == [5])
    await asyncio.sleep(0.05)
    assert (files.loads, files.in_force) == (2, [0, 5])


async def test_what_cannot_be_loaded_is_refused_and_the_next_is_taken():
    files = Files()
    files.go.release(10)
    files.content = -1
    files.reloader.ask()
    await until(lambda: files.refused)
    assert isinstance(files.refused[0], ValueError)
    files.content = 2
    files.reloader.ask()
    await until(lambda: files.in_force == [2])


async def test_after_a_stop_nothing_comes_into_force():
    files = Files()
    files.reloader.ask()
    await until(lambda: files.loads)
    await files.reloader.stop()
    files.go.release(10)
    await asyncio.sleep(0.1)
    assert files.in_force == []
    await Files().reloader.stop()
