"""One run of the fault harness: a relay under load between a submitting and a receiving side, and their ledgers."""

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from relay_queue.model import Selection
from relay_queue.sqlite import open_admin
from tests.support.ledger import Ledger, Score, compare
from tests.support.load import Load
from tests.support.running import Relay
from tests.support.sink import Sink
from tests.support.world import World, world

AIMS = ("random", "after 250", "after delivery", "after mark")
"""When a fault strikes: any time; right after the client read a 250; right after the receiving side wrote one; right
after the relay logged one, which it does when the mark is durable."""
_FINAL = re.compile(r"event=(delivered|failed|expired) .*?\bid=(\S+).*?\bto=(\S+)")


class Stage:
    """Start it, strike, settle; `score` is the result."""

    def __init__(self, stage_world: World, seed: int, load: dict[str, Any], delay: float) -> None:
        self.world = stage_world
        self.random = random.Random(seed)
        self.ledger = Ledger()
        self.faults: list[float] = []
        self.recoveries: list[float] = []
        self.wrong: list[str] = []
        """What a row found wrong beside the ledgers."""
        self.environment: dict[str, str] = {}
        """Variables for the relay's processes."""
        self.struck: int = 0
        """Port of the peer whose 250 the last fault followed; 0 where it followed none."""
        self.events = 0
        """Faults that excuse nothing: they are counted, but no double may follow from them."""
        host, address = stage_world.address("back.test", *(f"d{n}.test" for n in range(8)))
        self.sink = Sink(address, stage_world.port, self.ledger, delay)
        self.host = host
        self.relay: Relay
        self.keeper: socket.socket
        self.load: Load
        self._load = {"seed": seed} | load

    def _keep_port(self) -> None:
        """While the relay is down, nobody else may be given its port: other stages, outgoing connections."""
        keeper = socket.socket()
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        keeper.bind(("127.0.0.1", self.relay.plain))
        self.keeper = keeper

    async def begin(self, *, load: bool = True, **settings: Any) -> None:
        """Start the relay and, unless messages are to be sent one by one, the load."""
        await self.sink.start()
        defaults: dict[str, Any] = {
            "throttle": {
                "rate": "0",
                "connection_rate": "0",
                "max_connections": 5,
                "backoff": "300ms",
                "backoff_max": "1s",
            },
            "limits": {"free_disk": "1MiB"},
        }
        self.relay = await self.world.start(environment=self.environment, **(defaults | settings))
        self._keep_port()
        self.load = Load(self.relay.plain, self.ledger, **self._load)
        if load:
            self.load.start()

    @property
    def data_dir(self) -> Path:
        return Path(self.relay.path.parent, self.relay.settings["data_dir"])

    def workers(self) -> list[int]:
        """Process ids of the supervisor's children."""
        assert self.relay.process is not None
        pid = self.relay.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def owners(self) -> dict[int, int]:
        """Which worker has which connection, by a port that is not a server's: the client's, or ours to the sink."""
        ports: dict[str, int] = {}
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, _, _, _, _, _, inode, *_ = line.split()
            near, far = (int(end.rpartition(":")[2], 16) for end in (local, remote))
            if near == self.relay.plain:
                ports[inode] = far
            elif far == self.sink.port:
                ports[inode] = near
        owners: dict[int, int] = {}
        for pid in self.workers():
            with contextlib.suppress(OSError):
                for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                    name = str(descriptor.readlink())
                    if name.startswith("socket:[") and (port := ports.get(name[8:-1])):
                        owners[port] = pid
        return owners

    async def aimed(self, aim: str, strike: Callable[[], Any]) -> None:
        """Call `strike` at the moment that `aim` names, and note the time of the fault."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def now(port: int = 0) -> None:
            if done.done():
                return
            self.load.on_answer = self.sink.on_taken = None
            self.struck = port
            strike()
            self.faults.append(time.time())
            done.set_result(None)

        await asyncio.sleep(self.random.uniform(0.02, 0.35))
        if aim == "after 250":
            self.load.on_answer = now
        elif aim == "after delivery":
            self.sink.on_taken = now
        elif aim == "after mark":
            await self._marked()
            now()
        else:
            now()
        async with asyncio.timeout(60):
            await done

    async def _marked(self) -> None:
        with (self.world.folder / "stderr.log").open("rb") as log:
            log.seek(0, os.SEEK_END)
            async with asyncio.timeout(60):
                while b"event=delivered" not in log.read():
                    await asyncio.sleep(0.001)

    def kill(self) -> None:
        """kill -9 to the supervisor and all workers, at once; their end is awaited by `restart`."""
        assert self.relay.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.relay.process.pid, signal.SIGKILL)

    async def restart(self) -> None:
        """Start again after a fault that ended all processes; the time since the fault counts as recovery."""
        began = self.faults[-1] if self.faults else time.time()
        await asyncio.to_thread(self.relay.kill)
        await self.relay.start()
        self.recoveries.append(time.time() - began)

    async def restart_quietly(self) -> None:
        """A kill and a start that are no part of the fault; nothing may be in flight."""
        self.faults.append(time.time())
        self.events -= 1
        await self.restart()
        self.recoveries.pop()

    async def answering(self, seconds: float = 60) -> None:
        """Wait until a client gets its next 250."""
        before = len(self.ledger.answered())
        async with asyncio.timeout(seconds):
            while len(self.ledger.answered()) <= before:
                await asyncio.sleep(0.02)

    async def settle(self, seconds: float = 90) -> Score:
        """Stop the load, let the queue run dry, compare."""
        await self.load.stop()
        waiting = await self._dry(seconds)
        self._read_log()
        score = compare(self.ledger, self.faults, waiting)
        score.recoveries = self.recoveries
        score.faults += self.events
        score.wrong += self.wrong
        score.wrong += [f"{self.load.hangs} replies never came"] * bool(self.load.hangs)
        score.wrong += await self._litter()
        if not score.clean:
            self._dump(score)
        return score

    async def _dry(self, seconds: float) -> frozenset[str]:
        """Wait for the queue to empty; what stays after that is no loss, but is told."""
        deadline = time.monotonic() + seconds
        while True:
            live = await asyncio.to_thread(self._live)
            if not live or time.monotonic() > deadline:
                return frozenset(live)
            await asyncio.sleep(0.1)

    def _live(self) -> list[str]:
        admin = open_admin(self.data_dir)
        try:
            return [r.address for entry in admin.select(Selection(), limit=None) for r in entry.recipients]
        finally:
            admin.close()

    def _read_log(self) -> None:
        for kind, queue_id, to in _FINAL.findall(self.relay.log):
            key = (queue_id, to)
            self.ledger.told[key] = self.ledger.told.get(key, 0) + 1
            assert kind

    async def _litter(self) -> list[str]:
        """With an empty queue there is no body file, temporary or kept, a moment after the last commit."""
        deadline = time.monotonic() + 5
        while left := [path.name for path in (self.data_dir / "bodies").glob("*/*")]:
            if self._live():
                return []
            if time.monotonic() > deadline:
                return [f"{len(left)} body files stay behind: {left[:3]}"]
            await asyncio.sleep(0.05)
        return []

    def _dump(self, score: Score) -> None:
        """Leave the evidence beside the settings."""
        evidence = {
            "lost": score.lost,
            "wrong": score.wrong,
            "faults": self.faults,
            "given": [[g.token, g.recipients, g.answer.name, g.reply, g.at] for g in self.ledger.given.values()],
            "handed": {to: [[each.opened, each.at] for each in handed] for to, handed in self.ledger.handed.items()},
        }
        (self.world.folder / "evidence.json").write_text(json.dumps(evidence))


@contextlib.asynccontextmanager
async def stage(
    folder: Path, *, seed: int = 0, delay: float = 0.01, load: dict[str, Any] | None = None
) -> AsyncIterator[Stage]:
    """A stage in `folder`; everything ends with it."""
    async with world(folder) as made:
        on = Stage(made, seed, load or {}, delay)
        try:
            yield on
        finally:
            if hasattr(on, "load"):
                await on.load.stop()
                on.keeper.close()
            if hasattr(on, "relay"):
                await asyncio.to_thread(on.relay.kill)
            if on.sink._server is not None:
                await on.sink.stop()
