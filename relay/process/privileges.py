"""Root and the relay's user: which of them acts where, and how root drops its privileges.

Whoever can write to a folder can put a link where root expects a file or folder of the relay. So root never creates or
opens anything, and never changes an owner, in a place that the relay's user controls: it acts there with that user's
rights (`acting_as`, `on_behalf_of`), so that following a planted link gains nothing. What root creates in its own
folders is handed over through descriptors, from the innermost entry outwards (`give`).
"""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from relay_queue.folder import private_folder

_MOST_LINKS = 40
"""Maximum number of symbolic links that the kernel follows in one path (path_resolution(7))."""
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivilegeError(Exception):
    """The process cannot change to the user; the text says why."""


class Identity(NamedTuple):
    """The user and groups that a process acts as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups."""


def drop(user: str | None) -> None:
    """Change to `user` permanently: groups, group, user. Does nothing if not root or if no user is set."""
    if user is None or os.geteuid() != 0:
        return
    record, identity = lookup(user), identity_of(user)
    os.setgroups(identity.groups)
    os.setgid(identity.gid)
    os.setuid(identity.uid)
    if os.getuid() == 0 or os.geteuid() == 0:
        raise PrivilegeError(f"still root after becoming {user}")
    os.environ["HOME"] = record.pw_dir


def lookup(user: str) -> pwd.struct_passwd:
    """Return the user's record. Raises `PrivilegeError` if the user does not exist."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"no such system user: {user}; create it with `useradd --system {user}`") from None


def identity_of(user: str) -> Identity:
    """Return a user with the groups that it is a member of. Raises `PrivilegeError`."""
    record = lookup(user)
    groups = tuple(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)
    return Identity(record.pw_uid, record.pw_gid, groups)


def unprivileged(user: str | None) -> Identity | None:
    """Return the identity with which root must access the relay's files, or None if no change is needed."""
    if user is None or os.geteuid() != 0:
        return None
    identity = identity_of(user)
    return identity if identity.uid != 0 else None


@contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """Act temporarily with another user's rights (None: with one's own). Only for a process with one thread.

    Only the effective ids change, so the user cannot signal or trace the process, or prevent it from changing back.
    """
    if identity is None:
        yield
        return
    before = Identity(os.geteuid(), os.getegid(), tuple(os.getgroups()))
    os.setgroups(identity.groups)
    os.setegid(identity.gid)
    os.seteuid(identity.uid)
    try:
        yield
    finally:
        os.seteuid(before.uid)
        os.setegid(before.gid)
        os.setgroups(before.groups)


@contextmanager
def on_behalf_of(identity: Identity | None, *paths: Path) -> Iterator[None]:
    """Act as the user if it controls any of the paths, otherwise as oneself."""
    decides = identity is not None and any(controls(identity, path) for path in paths)
    with acting_as(identity if decides else None):
        yield


def controls(identity: Identity, path: Path) -> bool:
    """Whether a user can change what a path leads to, through a folder or link that it owns anywhere along the path.

    The path is resolved entry by entry, including links, as the kernel does it. If only root's folders and links are
    involved, nobody else can change them, so the answer stays valid.
    """
    pending = list(reversed(path.absolute().parts[1:]))
    links = 0
    with contextlib.ExitStack() as opened:

        def entered(name: str, folder: int | None) -> int:
            descriptor = os.open(name, _ENTRY, dir_fd=folder)
            opened.callback(os.close, descriptor)
            return descriptor

        folder = entered("/", None)
        while pending:
            here = os.fstat(folder)
            if _may_change(identity, here):
                return True
            try:
                entry = entered(pending.pop(), folder)
            except (FileNotFoundError, NotADirectoryError):
                return _may_create(identity, here)
            found = os.fstat(entry)
            if not stat.S_ISLNK(found.st_mode):
                folder = entry
                continue
            links += 1
            if found.st_uid == identity.uid or links > _MOST_LINKS:
                return True
            target = Path(os.readlink("", dir_fd=entry))
            if target.is_absolute():
                folder = entered("/", None)
            pending += reversed(target.parts[target.is_absolute() :])
        return os.fstat(folder).st_uid == identity.uid


def _may_create(identity: Identity, folder: os.stat_result) -> bool:
    """Whether the user may add entries to a folder."""
    shared = bool(folder.st_mode & stat.S_IWGRP) and folder.st_gid in {identity.gid, *identity.groups}
    return folder.st_uid == identity.uid or shared or bool(folder.st_mode & stat.S_IWOTH)


def _may_change(identity: Identity, folder: os.stat_result) -> bool:
    """Whether the user may replace other users' entries in a folder (not in a sticky one such as /tmp)."""
    if folder.st_uid == identity.uid:
        return True
    return _may_create(identity, folder) and not folder.st_mode & stat.S_ISVTX


def hand_over(folder: Path, identity: Identity) -> None:
    """As root, create a folder (0700) for the user, or change the owner of one that belongs to root.

    The contents of the folder are not changed. Raises `QueueError` if the user could not use it safely.
    """
    if not controls(identity, folder.parent):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # If this is a link or not a folder, the check below reports it.
        with contextlib.suppress(OSError), _opened_folder(folder) as descriptor:
            if os.fstat(descriptor).st_uid == 0:
                os.fchown(descriptor, identity.uid, identity.gid)
    with acting_as(identity):
        private_folder(folder)


def give(folder: Path, identity: Identity) -> None:
    """As root, change the owner of a folder that belongs to root, and of everything in it, to the user.

    The folder itself comes last: until then the user cannot enter it, so nothing in it can be replaced meanwhile.
    """
    for _, _, names, here in os.fwalk(folder, topdown=False, follow_symlinks=False):
        for name in names:
            os.chown(name, identity.uid, identity.gid, dir_fd=here, follow_symlinks=False)
        os.fchown(here, identity.uid, identity.gid)


@contextmanager
def _opened_folder(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
