"""`relay serve`: from settings to running processes.

The order matters. Settings, listeners and secrets are read and bound as root, then the privileges are dropped, then the
queue is opened, so that everything it creates belongs to the relay's user. What root must do in the data folder before
that (lock it, remove old sockets) it does with the rights of the relay's user, who may have put links there.
"""

import asyncio
import gc
import os
import resource
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from relay.events.log import EventLog
from relay.events.streams import guard_streams
from relay.process import orphans, reports, wake, worker
from relay.process.clients import SharedClients
from relay.process.clock import behind
from relay.process.failures import StartError, explain, few_descriptors, program_readable, say, unreadable_program
from relay.process.fixed import needs_restart
from relay.process.lock import AlreadyRunningError, Lock, LockError, acquire, lock_path
from relay.process.marker import DAMAGED, DamagedError, damage_of, leave_damage
from relay.process.materials import MaterialError, Materials
from relay.process.privileges import Identity, PrivilegeError, acting_as, drop, hand_over, unprivileged
from relay.process.processors import available
from relay.process.pulse import Pulse
from relay.process.setup import Setup
from relay.process.sockets import BindError, bind, bind_one, probe
from relay.process.supervisor import Child, Supervisor
from relay.submission.handler import Shared
from relay.submission.users import FILE as USERS_FILE
from relay.submission.users import UserFileError, read_users
from relay_config.check import load_checked
from relay_config.problems import SettingsError
from relay_config.schema import Listener, Settings
from relay_queue.folder import private_folder
from relay_queue.model import LOCAL_NODE
from relay_queue.protocol import QueueDamagedError, QueueError
from relay_queue.sqlite import open_queue

_ORPHAN_PATIENCE = 3.0
"""Seconds after which a worker of a supervisor that was killed hangs: those that are well end within one."""
_ORPHAN_INTERVAL = 2.0
"""Seconds from one kill to the next: who waited for the one that hung, commits and ends."""
_LOCK_PATIENCE = 10.0
"""Seconds in all. The kernel ends no process that waits for a disk which does not answer; nor do we start beside it."""
_DESCRIPTORS = 32
"""Files that a process has open beside its listeners before the first client connects, and a few to spare."""


class LogError(Exception):
    """The log cannot be opened; the text says why and what to do."""


_REFUSALS = (
    SettingsError,
    AlreadyRunningError,
    LockError,
    BindError,
    PrivilegeError,
    MaterialError,
    DamagedError,
    LogError,
    UserFileError,
    StartError,
)
"""Reasons not to start whose text is a sentence for the admin."""


def serve(
    settings_path: Path | None, environ: Mapping[str, str], greet: Callable[[Settings], None] = lambda _: None
) -> int:
    """Run until told to stop. Returns the exit status; what is wrong goes to standard error in a sentence.

    `greet` is called once nothing can keep the relay from starting any more, with the rights of the relay's user.
    """
    guard_streams()
    try:
        settings = load_checked(settings_path, environ, time.time())
        return _serve(settings, lambda: load_checked(settings_path, environ, time.time()), greet)
    except _REFUSALS as error:
        say(str(error))
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise  # a fault of the program: its trace is wanted
        say(f"relay cannot start: {explained}")
    return 1


def _serve(settings: Settings, reload: Callable[[], Settings], greet: Callable[[Settings], None]) -> int:
    workers = settings.workers or len(available())
    data_dir = Path(settings.data_dir)
    identity = unprivileged(settings.user)
    try:
        _prepare_data_dir(data_dir, identity)
    except (QueueError, OSError) as error:
        raise StartError(f"relay cannot start: {_explained(error, identity)}") from error
    lock, killed = _lock(data_dir, identity)
    try:
        _raise_descriptor_limit(workers * len(settings.listener) + _DESCRIPTORS)
        sockets = bind(settings, workers)
        receiver = _receiver_socket(settings)
        materials = Materials(settings)
        with acting_as(identity):
            wake.clear(data_dir)
            reports.clear(data_dir)
        drop(settings.user)
        _check_user(settings, data_dir)
        _refuse_damage(data_dir)
        bring_forward = {0} if behind(data_dir, time.time()) else set[int]()
        try:
            asyncio.run(_recover(data_dir))
        except QueueDamagedError as error:
            leave_damage(data_dir, "at the start", str(error), time.time())
            raise DamagedError(data_dir, str(error)) from error
        # What clients did is counted for all workers, and outlives a worker that dies.
        clients = SharedClients(workers, settings.limits.connections)
        setup = Setup(settings, materials, Shared(workers), clients, workers, reload, bring_forward)
        children = [_worker(setup, lock, slot, sockets[slot]) for slot in range(workers)]
        if receiver is not None:
            from relay.process.receiver import main as receive

            children.append(Child("sandbox receiver", partial(receive, settings, receiver)))
        log = _open_log(settings)
        greet(settings)
        log.process("started", workers=workers, hostname=settings.hostname, data_dir=str(data_dir), pid=os.getpid())
        for pid in killed:
            log.process("killed a worker that outlived its supervisor", pid=pid)
        # What exists now is shared by all workers: the collector shall not touch (and so copy) it.
        gc.freeze()
        supervisor = Supervisor(
            children,
            log.process,
            on_reload=partial(_reload, setup, log),
            on_reopen=log.reopen,
            on_look=log.flush,
            in_child=log.abandon,
        )
        status = supervisor.run()
        log.close()
        return status
    finally:
        lock.release()


def _worker(setup: Setup, lock: Lock, slot: int, sockets: list[tuple[Listener, socket.socket]]) -> Child:
    pulse = Pulse()

    def main(lifeline: int) -> int:
        data_dir = Path(setup.settings.data_dir)
        if not lock.holds(lock_path(data_dir)):
            # A folder made anew in its place would not be locked: another server could start on it.
            raise StartError(f"{data_dir} was deleted or moved away while the relay was running; restart the relay")
        return worker.main(setup, slot, sockets, pulse, lifeline)

    return Child(f"worker {slot}", main, partial(_died, setup, slot), pulse=pulse)


def _died(setup: Setup, slot: int) -> None:
    setup.clients.forget(slot)
    reports.forget(Path(setup.settings.data_dir), slot)
    setup.bring_forward.add(slot)  # what it had in hand comes back with the due times it had


def _open_log(settings: Settings) -> EventLog:
    try:
        return EventLog(settings, slot="supervisor")
    except OSError as error:
        user = settings.user or str(os.geteuid())
        destination = settings.log.destination
        remedy = f"give the user {user} a folder for it: install -d -m 0700 -o {user} {Path(destination).parent}"
        raise LogError(f"log: {destination} cannot be opened: {error.strerror}; {remedy}") from error


def _reload(setup: Setup, log: EventLog) -> bool:
    """SIGHUP in the supervisor: True when the new settings are in force here, so that the workers can take them."""
    log.reopen()
    try:
        update = setup.prepare()
        setup.commit(update)
    except (SettingsError, MaterialError) as error:
        log.process("reload refused", reason=str(error))
        return False
    except Exception as error:  # noqa: BLE001 - whatever is wrong with new settings, the relay goes on with the old
        log.problem("reload", error)
        return False
    log.reload(setup.settings)
    for change in needs_restart(setup.started, update.wanted):
        log.process("restart needed", **change._asdict())
    return True


def _raise_descriptor_limit(needed: int) -> None:
    """As many open files as the system allows: the usual 1,024 are fewer than the connections that the settings do."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < needed:
        raise StartError(str(few_descriptors(needed)))


def _receiver_socket(settings: Settings) -> socket.socket | None:
    """The socket of the sandbox's receiver, bound here so that a port in use is a reason not to start."""
    if settings.sandbox.receiver is None:
        return None
    probe(settings.sandbox.receiver)
    return bind_one(settings.sandbox.receiver)


def _check_user(settings: Settings, data_dir: Path) -> None:
    """What the relay's user must be able to do, and each worker would fail in."""
    if settings.user is not None and not program_readable():
        # Whatever is still to be imported would fail one by one.
        raise StartError(str(unreadable_program(settings.user)))
    read_users(data_dir / USERS_FILE)


def _prepare_data_dir(data_dir: Path, identity: Identity | None) -> None:
    """Make the folders that are needed before the privileges are dropped; they belong to the relay's user."""
    if identity is not None:
        hand_over(data_dir, identity)
    with acting_as(identity):
        private_folder(data_dir)
        private_folder(data_dir / "run")


def _explained(error: Exception, identity: Identity | None) -> str:
    """In words, by what the relay's user may see: root could not tell what refused that user."""
    with acting_as(identity):
        return str(explain(error))


def _lock(data_dir: Path, identity: Identity | None) -> tuple[Lock, list[int]]:
    """Take the data folder. Workers of a supervisor that was killed get a moment to end, then are killed (returned)."""
    killed: list[int] = []
    began = time.monotonic()
    look_at = began + _ORPHAN_PATIENCE
    while True:
        try:
            with acting_as(identity):
                return acquire(data_dir), killed
        except AlreadyRunningError as error:
            now = time.monotonic()
            if (error.pid and orphans.holds(error.pid, lock_path(data_dir))) or now > began + _LOCK_PATIENCE:
                raise
            if now >= look_at:
                # As root: the kernel shows the locks of a process that changed its user to nobody else.
                killed += orphans.end(data_dir, os.geteuid() if identity is None else identity.uid)
                look_at = now + _ORPHAN_INTERVAL
            time.sleep(0.05)
        except OSError as error:
            # Where it was opened by its name in an open folder, the error does not have the whole path.
            whole = OSError(error.errno, error.strerror, str(lock_path(data_dir)))
            raise LockError(_explained(whole, identity)) from error


def _refuse_damage(data_dir: Path) -> None:
    try:
        what = damage_of(data_dir)
    except OSError as error:
        raise QueueError(f"{data_dir / DAMAGED} cannot be read: {error.strerror}") from error
    if what is not None:
        raise DamagedError(data_dir, what)


async def _recover(data_dir: Path) -> None:
    """Create or migrate the queue, and give back what workers of an earlier run had in hand."""
    opened = open_queue(data_dir)
    try:
        await opened.recover_node(LOCAL_NODE)
    finally:
        await opened.aclose()
