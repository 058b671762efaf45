"""`relay serve`: from settings to running processes.

The order matters. First root reads the settings and secrets and binds the listeners, then the privileges are dropped,
then the queue is opened, so that everything it creates belongs to the relay's user. What root must do in the data
folder before that (lock it, remove old sockets), it does with the rights of the relay's user, who may have put links
there.
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
"""Seconds after which a worker whose supervisor was killed is considered hung; healthy ones end within a second."""
_ORPHAN_INTERVAL = 2.0
"""Seconds between kills, in which workers that waited for the hung one can commit and end."""
_LOCK_PATIENCE = 10.0
"""Seconds in total. The kernel cannot end a process that waits for a failed disk, and we do not start beside it."""
_DESCRIPTORS = 32
"""Files that a process has open besides its listeners before the first client connects, plus a few in reserve."""


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
"""Errors that prevent the start and whose text is a sentence for the admin."""


def serve(
    settings_path: Path | None, environ: Mapping[str, str], greet: Callable[[Settings], None] = lambda _: None
) -> int:
    """Run until stopped by a signal. Returns the exit status; an error is written to standard error as a sentence.

    `greet` is called when nothing can prevent the start any more, with the rights of the relay's user.
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
            raise  # a bug: show its traceback
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
        # Clients are counted over all workers, and the counts outlive a worker that dies.
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
        # All workers share the objects that exist now. The collector must not touch (and so copy) their pages.
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
            # A new folder in its place would not be locked, and another server could start on it.
            raise StartError(f"{data_dir} was deleted or moved away while the relay was running; restart the relay")
        return worker.main(setup, slot, sockets, pulse, lifeline)

    return Child(f"worker {slot}", main, partial(_died, setup, slot), pulse=pulse)


def _died(setup: Setup, slot: int) -> None:
    setup.clients.forget(slot)
    reports.forget(Path(setup.settings.data_dir), slot)
    setup.bring_forward.add(slot)  # recipients that it had claimed return with their old due times


def _open_log(settings: Settings) -> EventLog:
    try:
        return EventLog(settings, slot="supervisor")
    except OSError as error:
        user = settings.user or str(os.geteuid())
        destination = settings.log.destination
        remedy = f"give the user {user} a folder for it: install -d -m 0700 -o {user} {Path(destination).parent}"
        raise LogError(f"log: {destination} cannot be opened: {error.strerror}; {remedy}") from error


def _reload(setup: Setup, log: EventLog) -> bool:
    """Handle SIGHUP in the supervisor. True if the new settings are in force here, so that workers can load them."""
    log.reopen()
    try:
        update = setup.prepare()
        setup.commit(update)
    except (SettingsError, MaterialError) as error:
        log.process("reload refused", reason=str(error))
        return False
    except Exception as error:  # noqa: BLE001 - whatever is wrong with new settings, the relay keeps the old ones
        log.problem("reload", error)
        return False
    log.reload(setup.settings)
    for change in needs_restart(setup.started, update.wanted):
        log.process("restart needed", **change._asdict())
    return True


def _raise_descriptor_limit(needed: int) -> None:
    """Allow as many open files as the system does: the usual 1,024 are fewer than the connections in the settings."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most != resource.RLIM_INFINITY and most < needed:
        raise StartError(str(few_descriptors(needed)))


def _receiver_socket(settings: Settings) -> socket.socket | None:
    """Bind the socket of the sandbox's receiver here, so that a port in use prevents the start."""
    if settings.sandbox.receiver is None:
        return None
    probe(settings.sandbox.receiver)
    return bind_one(settings.sandbox.receiver)


def _check_user(settings: Settings, data_dir: Path) -> None:
    """Check what the relay's user must be able to do and what would otherwise fail in each worker."""
    if settings.user is not None and not program_readable():
        # Otherwise each later import would fail.
        raise StartError(str(unreadable_program(settings.user)))
    read_users(data_dir / USERS_FILE)


def _prepare_data_dir(data_dir: Path, identity: Identity | None) -> None:
    """Create the folders that are needed before the privileges are dropped; they belong to the relay's user."""
    if identity is not None:
        hand_over(data_dir, identity)
    with acting_as(identity):
        private_folder(data_dir)
        private_folder(data_dir / "run")


def _explained(error: Exception, identity: Identity | None) -> str:
    """Explain an error with the rights of the relay's user: as root, the cause of the refusal would not show."""
    with acting_as(identity):
        return str(explain(error))


def _lock(data_dir: Path, identity: Identity | None) -> tuple[Lock, list[int]]:
    """Lock the data folder. Workers left by a killed supervisor get a grace period, then are killed (ids returned)."""
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
                # As root, because the kernel shows the locks of a process that changed its user only to root.
                killed += orphans.end(data_dir, os.geteuid() if identity is None else identity.uid)
                look_at = now + _ORPHAN_INTERVAL
            time.sleep(0.05)
        except OSError as error:
            # If the file was opened relative to a folder descriptor, the error does not contain the whole path.
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
    """Create or migrate the queue, and release what the workers of an earlier run had claimed."""
    opened = open_queue(data_dir)
    try:
        await opened.recover_node(LOCAL_NODE)
    finally:
        await opened.aclose()
