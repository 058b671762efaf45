"""One worker process: an event loop with its listeners, its queue writer and its lanes."""

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

from relay.delivery.routing import Router
from relay.delivery.service import DeliveryService
from relay.events import diagnostics
from relay.events.log import EventLog
from relay.message.dsn import DsnFactory
from relay.model.notices import Due, Everything, Notice, PendingActions, SuspensionsChanged
from relay.process import processors, reports, wake
from relay.process.failures import StartError, explain
from relay.process.housekeeping import Housekeeping
from relay.process.materials import MaterialError
from relay.process.pulse import Pulse
from relay.process.reload import Reloader
from relay.process.setup import Setup, Update
from relay.process.supervisor import CHILD_UNBLOCKS, STOP_GRACE, close_ears
from relay.smtp.server.listen import Connections, Server, ServerContext, drain, serve
from relay.submission.handler import SubmissionHandler
from relay.submission.networks import Networks
from relay.submission.users import UserFileError
from relay_config.problems import SettingsError
from relay_config.schema import Listener
from relay_queue.model import LOCAL_NODE, Owner
from relay_queue.protocol import Queue
from relay_queue.sqlite import open_queue

_ORPHAN_GRACE = 0.3
"""Seconds for running transactions when the supervisor is gone; short because a new one may be waiting to start."""


def main(setup: Setup, slot: int, sockets: list[tuple[Listener, socket.socket]], pulse: Pulse, lifeline: int) -> int:
    """Run in the forked child until SIGTERM; returns the exit status."""
    # Number of new objects that triggers a collection of the young generation. With 700, a busy relay collects all the
    # time, although hardly any garbage of a message is cyclic.
    gc.set_threshold(50_000, 20, 50)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        pulse.keep_beating(runner.get_loop())
        return runner.run(_run(setup, slot, sockets, lifeline))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(setup: Setup, slot: int, sockets: list[tuple[Listener, socket.socket]], lifeline: int) -> int:
    with _starting():
        queue = open_queue(Path(setup.settings.data_dir))
        owner = await queue.lease(LOCAL_NODE, slot)
        worker = Worker(setup, queue, owner)
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[float] = loop.create_future()

    def ask_to_stop(grace: float) -> None:
        if not stop.done():
            stop.set_result(grace)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask_to_stop, STOP_GRACE)
    loop.add_signal_handler(signal.SIGHUP, worker.reload)
    loop.add_signal_handler(signal.SIGUSR1, worker.reopen_logs)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD_UNBLOCKS)
    loop.add_reader(lifeline, ask_to_stop, _ORPHAN_GRACE)
    with _starting():
        await worker.start(sockets)
    keeper = processors.Keeper(slot, setup.workers)
    if setup.settings.pin_workers:
        keeper.start(loop)
    grace = await stop
    loop.remove_reader(lifeline)
    keeper.stop()
    await worker.stop(grace)
    close_ears()
    return 0


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Turn errors of the environment into `StartError`; bugs keep their traceback."""
    try:
        yield
    except UserFileError as error:
        raise StartError(str(error)) from error
    except Exception as error:
        if (explained := explain(error)) is None:
            raise
        raise StartError(str(explained)) from error


class Worker:
    """All parts of one worker, started and stopped in the right order."""

    def __init__(self, setup: Setup, queue: Queue, owner: Owner) -> None:
        self._setup = setup
        self._owner = owner
        slot = owner.worker
        settings, materials = setup.settings, setup.materials
        self._data_dir = Path(settings.data_dir)
        self._loop = asyncio.get_running_loop()
        # A log that can no longer be opened must not prevent the start of a successor.
        self.log = EventLog(settings, slot=str(slot), must_open=False)
        self._uninstall = diagnostics.install(self.log)
        self.queue = queue
        self._router = Router(settings)
        self._dsn = DsnFactory(settings, materials.keys)
        self._notifier = wake.Notifier(self._data_dir, self._loop)
        self.delivery = DeliveryService(
            settings,
            self.queue,
            self.log,
            self._router,
            self._dsn.build,
            owner=owner,
            workers=setup.workers,
            notify=self._notifier.notify,
        )
        self._handler = SubmissionHandler(
            settings, self.queue, self.delivery, self.log, keys=materials.keys, shared=setup.shared, slot=slot
        )
        self._housekeeping = Housekeeping(
            settings, self.queue, self.log, slot, self.delivery.halt, bring_forward=slot in setup.bring_forward
        )
        self._reporter = reports.Reporter(self._data_dir, slot, self.log, self.delivery.report)
        self._connections = Connections(setup.clients.column(slot))
        self._reloader = Reloader(setup.prepare, self._take, self._refuse)
        self._servers: list[Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._notices: wake.Listener | None = None

    async def start(self, sockets: list[tuple[Listener, socket.socket]]) -> None:
        """Release what a predecessor had claimed, then start deliveries, then listen."""
        await self.queue.recover(self._owner)
        self._notices = wake.listen(self._data_dir, self._owner.worker, self._loop, self._notice)
        await self.delivery.start()
        self._housekeeping.start()
        self._reporter.start()
        # The settings in force list the same listeners as the sockets, with the changes of later reloads.
        for listener, (_, sock) in zip(self._setup.settings.listener, sockets, strict=True):
            self._servers.append(await serve(sock, self._context(listener)))
        self.log.process("worker ready", pid=os.getpid())

    async def stop(self, grace: float) -> None:
        """Stop accepting. Transactions on both sides get `grace` seconds; unfinished mail stays in the queue."""
        self.log.process("worker stopping", grace=grace)
        began = self._loop.time()
        await self._reloader.stop()
        for server in self._servers:
            server.stop()
        self._handler.stop()
        await drain(self._connections, grace)
        for server in self._servers:
            await server.stopped()
        await self.delivery.stop(max(0.1, grace - (self._loop.time() - began)))
        if self._notices is not None:
            await self._notices.aclose()
        self._notifier.close()
        await self._reporter.stop()
        await self._housekeeping.stop()
        await self._router.aclose()
        self._handler.close()
        await self.queue.aclose()
        self.log.process("worker stopped")
        self._uninstall()
        self.log.close()

    def _context(self, listener: Listener) -> ServerContext:
        return ServerContext.from_settings(
            self._setup.settings,
            listener,
            self._handler,
            self._setup.materials.tls,
            self._connections,
            Networks(self._setup.settings.submission.trusted_networks).__contains__,
            self._handler.familiar,
        )

    def reload(self) -> None:
        """Handle SIGHUP: reopen the log and load new settings, certificates and keys. Invalid ones are not used."""
        self.log.reopen()
        self._reloader.ask()

    def reopen_logs(self) -> None:
        """Handle SIGUSR1: reopen the log file, which was moved away."""
        self.log.reopen()

    def _take(self, update: Update) -> None:
        self._setup.commit(update)
        settings, keys = self._setup.settings, self._setup.materials.keys
        self.log.reload(settings)
        self._dsn.reload(settings, keys)
        self.delivery.reload(settings)
        self._handler.reload(settings, keys)
        self._housekeeping.reload(settings)
        for server, listener in zip(self._servers, settings.listener, strict=True):
            server.context = self._context(listener)
        self.log.process("reloaded")

    def _refuse(self, error: Exception) -> None:
        if isinstance(error, SettingsError | MaterialError):
            self.log.process("reload refused", reason=str(error))
        else:
            self.log.problem("reload", error)

    def _notice(self, notice: Notice) -> None:
        match notice:
            case Due(destination):
                self.delivery.due(destination)
            case PendingActions():
                self._spawn(self.delivery.steering.carry_out())
            case SuspensionsChanged():
                self._spawn(self.delivery.steering.reload_suspensions())
            case Everything():
                self._spawn(self._everything())

    async def _everything(self) -> None:
        """Notices were lost: check everything."""
        await self.delivery.steering.reload_suspensions()
        await self.delivery.steering.carry_out()
        self.delivery.due(None)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.problem("notice", error)
