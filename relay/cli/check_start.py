"""Finds what prevents `relay serve` from starting although its settings are valid: ports, the data folder, its disk.

Part of `relay check`. Nothing is changed: a port is bound only for a moment, and folders are only inspected.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relay.cli.context import user_name
from relay.cli.output import octets
from relay.process.lock import holder
from relay.process.ports import listening, users
from relay.process.sockets import BindError, probe
from relay.submission.disk import free_and_needed
from relay_config.endpoints import parse_endpoint
from relay_config.problems import KeyPath, Problem, found
from relay_config.schema import Settings
from relay_queue.folder import private_folder
from relay_queue.protocol import QueueError

Place = Callable[[KeyPath, str, str], Problem]
"""Creates a problem with the position of a setting: `relay_config.check.Report.at`."""

_ENTRIES = {
    "queue.db": stat.S_IFREG,
    "queue.db-wal": stat.S_IFREG,
    "queue.db-shm": stat.S_IFREG,
    "queue.lock": stat.S_IFREG,
    "writer.lock": stat.S_IFREG,
    "queue-damaged": stat.S_IFREG,
    "queue-delivered": stat.S_IFREG,
    "reserve": stat.S_IFREG,
    "users.json": stat.S_IFREG,
    ".users.json.lock": stat.S_IFREG,
    "run": stat.S_IFDIR,
    "run/lock": stat.S_IFREG,
    "events": stat.S_IFDIR,
    "bodies": stat.S_IFDIR,
    "bodies/tmp": stat.S_IFDIR,
    "salvage": stat.S_IFDIR,
    "sandbox": stat.S_IFDIR,
}
"""Entries that the relay creates in the data folder, and the required kind of each."""
_KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFLNK: "a symbolic link"}
_TRIES = 2
_PAUSE = 0.1
"""Seconds between two attempts at a port."""


def running(data_dir: Path) -> int | None:
    """Return the process id of the relay that uses this data folder (0: unknown), or None."""
    try:
        return holder(data_dir)
    except OSError:  # the check of the entries reports problems of the lock file
        return None


def ports(settings: Settings, at: Place, server: int | None) -> Iterator[Problem]:
    """Find addresses that the relay cannot listen on, except those that the running `server` itself uses."""
    addresses: list[tuple[KeyPath, str]] = [
        (("listener", index, "address"), listener.address) for index, listener in enumerate(settings.listener)
    ]
    if settings.sandbox.receiver is not None:
        addresses.append((("sandbox", "receiver"), settings.sandbox.receiver))
    for path, address in addresses:
        error = _refusal(address)
        if error is not None and (server is None or not _has(server, address)):
            yield at(path, f"{found(address)}: {error.why}", error.remedy)


def _refusal(address: str) -> BindError | None:
    refusal: BindError | None = None
    for _ in range(_TRIES):
        try:
            probe(address)
        except BindError as error:
            refusal = error
            if listening(parse_endpoint(address)):
                return refusal
            # No process listens there; the one that did may have just ended.
            time.sleep(_PAUSE)
        else:
            return None
    return refusal


def _has(server: int, address: str) -> bool:
    sockets = listening(parse_endpoint(address))
    owners = users(sockets)
    if not owners:
        return bool(sockets)  # the process may not be inspected; most likely the port is the relay's own
    return any(owner.pid == server for owner in owners)


def new_folder(settings: Settings) -> Iterator[Problem]:
    """Check whether a missing data folder can be created, and whether the disk has room."""
    folder = Path(settings.data_dir)
    above = folder.parent
    if not os.access(above, os.W_OK | os.X_OK):
        owner, me = user_name(above.stat().st_uid), user_name(os.geteuid())
        what = f"does not exist, and {me} cannot make it in {above}, which belongs to {owner}"
        yield Problem(str(folder), "", what, f"as root: install -d -m 0700 -o {settings.user or me} {folder}")
    yield from space(settings, above)


def ownership(folder: Path, settings: Settings) -> Iterator[Problem]:
    """Check that only the relay can access the folder. The settings check reports a path that is not a folder."""
    status = folder.lstat()
    owner, me = user_name(status.st_uid), user_name(os.geteuid())
    wanted = settings.user if settings.user is not None else me
    if status.st_mode & stat.S_IWGRP:
        yield Problem(str(folder), "", "its group may change it", f"run: chmod 0700 {folder}")
    elif owner != wanted and (settings.user is not None or _refused(folder)):
        change = "" if settings.user is not None else f'set `user = "{owner}"`, or '
        what = f"belongs to {owner}, and the relay runs as {wanted}"
        yield Problem(str(folder), "", what, f"{change}run as root: chown -R {wanted}: {folder}")
    elif (status.st_mode & stat.S_IRWXU) != stat.S_IRWXU:
        yield Problem(str(folder), "", "its owner may not read, change and enter it", f"run: chmod 0700 {folder}")


def _refused(folder: Path) -> bool:
    """Whether this user could not open a queue in the folder."""
    try:
        private_folder(folder)
    except QueueError:
        return True
    return False


def entries(folder: Path) -> Iterator[Problem]:
    """Find foreign entries with the names of the relay's files, and files that it cannot use, as left by `sudo`."""
    owner = folder.stat().st_uid
    for name, kind in _ENTRIES.items():
        path = folder / name
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # not created yet, or a problem of its folder is reported itself
        if stat.S_IFMT(status.st_mode) != kind:
            what = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
            yield Problem(str(path), "", f"found {what} in the place of {_KINDS[kind]}", "move it away")
        elif status.st_uid != owner:
            what = f"belongs to {user_name(status.st_uid)}, and the data folder to {user_name(owner)}"
            yield Problem(str(path), "", what, f"run: chown -R {user_name(owner)}: {folder}")
        elif not os.access(path, os.R_OK | os.W_OK | (os.X_OK if kind == stat.S_IFDIR else 0)):
            mode = "0700" if kind == stat.S_IFDIR else "0600"
            yield Problem(str(path), "", "its owner may not read and write it", f"run: chmod {mode} {path}")


def medium(folder: Path) -> Iterator[Problem]:
    """Check that the file system is writable."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield Problem(str(folder), "", "its file system is read-only", "mount it for writing")


def space(settings: Settings, folder: Path) -> Iterator[Problem]:
    """Check that the disk has enough room to accept mail."""
    disk = os.statvfs(folder)
    free, needed = free_and_needed(settings, disk)
    if free < needed:
        what = f"{octets(int(free))} are free on its disk, and mail is accepted only with {octets(int(needed))} or more"
        yield Problem(settings.data_dir, "", what, "free some, or set limits.free_disk lower")
    elif disk.f_files and not disk.f_favail:
        yield Problem(settings.data_dir, "", "its disk has no inodes left for new files", "remove some files")


def log(settings: Settings, at: Place) -> Iterator[Problem]:
    """Check, with the rights of the relay's user, that it can write to the log."""
    if settings.log.destination == "stderr":
        return
    path = Path(settings.log.destination)
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK if place == path else os.W_OK | os.X_OK):
        owner, me = user_name(place.stat().st_uid), user_name(os.geteuid())
        what = f"{found(str(path))}, and {place} belongs to {owner}: {me} cannot write to it"
        yield at(("log", "destination"), what, f"give it to the relay's user: chown {me}: {place}")
