"""Wake-ups: they arrive, they gather, and their fact is never lost."""

import asyncio
import socket

import pytest
import uvloop

from relay.model.notices import Due, Everything, PendingActions, SuspensionsChanged
from relay.process import wake
from relay.process.wake import Notifier, clear, listen, notify
from relay_queue.model import Destination

ALL = Everything()


def due(domain: str) -> Due:
    return Due(Destination(domain))


class Ear:
    """Remembers what was heard, and lets a test wait for it."""

    def __init__(self):
        self.heard = []
        self._changed = asyncio.Event()

    def __call__(self, notice):
        self.heard.append(notice)
        self._changed.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition(self.heard):
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture(params=["short", "long"])
def folder(request, tmp_path):
    if request.param == "short":
        return tmp_path
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    return deep


@pytest.fixture
def open_listener(folder):
    opened = []

    def make(slot, ear):
        opened.append(listen(folder, slot, asyncio.get_running_loop(), ear))
        return opened[-1]

    yield make
    for listener in opened:
        listener.close()


@pytest.fixture
async def notifier(folder):
    made = Notifier(folder, asyncio.get_running_loop())
    yield made
    made.close()


async def test_a_notice_reaches_the_worker_it_is_for(folder, open_listener):
    first, second = Ear(), Ear()
    open_listener(0, first)
    open_listener(1, second)
    assert notify(folder, due("example.org"), 1) == 1
    await second.until(bool)
    assert second.heard == [due("example.org")]
    assert first.heard == []
    assert notify(folder) == 2
    await first.until(bool)
    assert first.heard == [ALL]


async def test_words_without_argument(folder, open_listener):
    ear = Ear()
    open_listener(0, ear)
    for notice in (PendingActions(), SuspensionsChanged(), Due()):
        notify(folder, notice)
    await ear.until(lambda heard: len(heard) == 3)
    assert ear.heard == [PendingActions(), SuspensionsChanged(), Due()]


async def test_nobody_listens(folder, open_listener):
    assert notify(folder) == 0
    assert notify(folder / "missing") == 0
    assert notify(folder, slot=3) == 0
    (folder / "run").mkdir()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with wake._short(folder / "run" / "worker-5.sock") as path:
        stale.bind(path)
    stale.close()
    assert notify(folder) == 0
    ear = Ear()
    open_listener(5, ear)
    assert notify(folder) == 1
    await ear.until(bool)


async def test_sockets_are_private_and_go_away(folder, open_listener):
    listener = open_listener(0, Ear())
    path = folder / "run" / "worker-0.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    assert (folder / "run").stat().st_mode & 0o777 == 0o700
    listener.close()
    await listener.aclose()
    assert not path.exists()


async def test_a_successor_keeps_its_socket_when_the_old_one_closes(folder, open_listener):
    old = open_listener(0, Ear())
    ear = Ear()
    open_listener(0, ear)
    old.close()
    assert notify(folder) == 1
    await ear.until(bool)


async def test_clear_removes_what_dead_workers_left(folder, open_listener):
    open_listener(0, Ear())
    (folder / "run" / "lock").touch()
    clear(folder)
    assert [path.name for path in (folder / "run").iterdir()] == ["lock"]
    clear(folder / "missing")


async def test_equal_notices_of_one_turn_are_sent_once(notifier, open_listener):
    ear = Ear()
    open_listener(0, ear)
    for _ in range(1000):
        notifier.notify(due("a.example"), 0)
        notifier.notify(due("b.example"), 0)
    await ear.until(lambda heard: len(heard) >= 2)
    notifier.notify(PendingActions(), 0)
    await ear.until(lambda heard: heard[-1] == PendingActions())
    assert ear.heard == [due("a.example"), due("b.example"), PendingActions()]


async def test_many_notices_take_several_datagrams(notifier, open_listener):
    ear = Ear()
    open_listener(0, ear)
    domains = [f"{'x' * 60}.{n}.example" for n in range(1000)]
    for domain in domains:
        notifier.notify(due(domain), 0)
    await ear.until(lambda heard: len(heard) >= 1000)
    assert ear.heard == [due(domain) for domain in domains]


async def test_too_many_notices_become_all(notifier, open_listener):
    ear = Ear()
    open_listener(0, ear)
    for n in range(5000):
        notifier.notify(due(f"{n}.example"), 0)
    await ear.until(bool)
    assert ear.heard == [ALL]


async def test_a_worker_that_does_not_read_gets_all_in_the_end(notifier, open_listener, monkeypatch):
    monkeypatch.setattr(wake, "_RETRY_MOST", 0.05)
    ear = Ear()
    listener = open_listener(0, ear)
    loop = asyncio.get_running_loop()
    loop.remove_reader(listener._socket)
    for n in range(2000):
        notifier.notify(due(f"{n}.example"), 0)
        notifier._flush()
        if notifier.dropped:
            break
    assert notifier.dropped
    for n in range(2000):
        notifier.notify(due(f"later{n}.example"), 0)
    assert len(notifier._pending[0]) == 1
    loop.add_reader(listener._socket, listener._readable)
    await ear.until(lambda heard: not notifier._pending and ALL in heard)


async def test_a_full_queue_is_an_all_even_if_the_sender_left(folder, open_listener):
    ear = Ear()
    listener = open_listener(0, ear)
    loop = asyncio.get_running_loop()
    loop.remove_reader(listener._socket)
    for n in range(wake._queue_length() + 50):
        assert notify(folder, due(f"{n}.example"), 0) == 1
    loop.add_reader(listener._socket, listener._readable)
    await ear.until(lambda heard: ALL in heard)


async def test_one_stuck_worker_does_not_hold_up_another(notifier, open_listener):
    stuck, well = Ear(), Ear()
    listener = open_listener(0, stuck)
    open_listener(1, well)
    asyncio.get_running_loop().remove_reader(listener._socket)
    for n in range(2000):
        notifier.notify(due(f"{n}.example"), 0)
        notifier._flush()
    notifier.notify(due("example.org"), 1)
    await well.until(bool)
    assert well.heard[-1] in {due("example.org"), ALL}


async def test_what_is_not_understood_is_an_all(folder, open_listener):
    for datagram in (b"\xff\xfe", b"newer thing", b"", b"due " + b"x" * 20_000):
        ear = Ear()
        listener = open_listener(0, ear)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            wake._send(sender, folder / "run" / "worker-0.sock", datagram)
        await ear.until(bool)
        assert ear.heard == [ALL]
        listener.close()


def test_it_runs_on_uvloop(folder):
    async def scenario():
        loop = asyncio.get_running_loop()
        ear = Ear()
        listener = listen(folder, 0, loop, ear)
        notifier = Notifier(folder, loop)
        notifier.notify(due("example.org"), 0)
        await ear.until(bool)
        assert ear.heard == [due("example.org")]
        notifier.close()
        listener.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
