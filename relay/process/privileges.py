"""Root and the relay's user: who acts where, and how root gives itself up.

Whoever can write to a folder can put a link where root expects a file or folder of the relay. So root never creates,
opens or gives away anything in a place that the relay's user controls: it acts there as that user (`acting_as`,
`on_behalf_of`), with the user's rights, so that following a planted link gains nothing. What root makes in places of
its own is given away through descriptors, from the innermost entry outwards (`give`).
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
"""As many symbolic links as the kernel follows in one path (path_resolution(7))."""
_ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class PrivilegeError(Exception):
    """The user can't be become; the text says why."""


class Identity(NamedTuple):
    """Whom a process acts as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Supplementary groups."""


def drop(user: str | None) -> None:
    """Become `user` for good: groups, group, user; nothing to do when not root or no user is set."""
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
    """The user's record; PrivilegeError when there is no such user."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"no such system user: {user}; create it with `useradd --system {user}`") from None


def identity_of(user: str) -> Identity:
    """A user with the groups that it is a member of. Raises `PrivilegeError`."""
    record = lookup(user)
    groups = tuple(group.gr_gid for group in grp.getgrall() if user in group.gr_mem)
    return Identity(record.pw_uid, record.pw_gid, groups)


def unprivileged(user: str | None) -> Identity | None:
    """The identity that root must take for the relay's files; None when there is nothing to change."""
    if user is None or os.geteuid() != 0:
        return None
    identity = identity_of(user)
    return identity if identity.uid != 0 else None


@contextmanager
def acting_as(identity: Identity | None) -> Iterator[None]:
    """Act with another user's rights for a while (None: with one's own). For a process with one thread.

    Only the effective ids change: the user cannot send signals to the process, trace it, or keep it from turning back.
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
    """Act as the user if it decides what any of the paths leads to, else as oneself."""
    decides = identity is not None and any(controls(identity, path) for path in paths)
    with acting_as(identity if decides else None):
        yield


def controls(identity: Identity, path: Path) -> bool:
    """Whether a user decides what a path leads to, by a folder or a link of its own anywhere on the way.

    The way is gone entry by entry, links included, as the kernel goes it. What root's folders and links alone decide
    cannot change behind our back, so the answer stays true.
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
    """Whether the user may replace entries of a folder that belong to others (not in a sticky one, as /tmp is)."""
    if folder.st_uid == identity.uid:
        return True
    return _may_create(identity, folder) and not folder.st_mode & stat.S_ISVTX


def hand_over(folder: Path, identity: Identity) -> None:
    """As root: make a folder (0700) that is to belong to the user, or give it one of root's own.

    What is in the folder is left as it is. Raises `QueueError` where the user could not use it safely.
    """
    if not controls(identity, folder.parent):
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        # Where this is a link or no folder, the check below says so.
        with contextlib.suppress(OSError), _opened_folder(folder) as descriptor:
            if os.fstat(descriptor).st_uid == 0:
                os.fchown(descriptor, identity.uid, identity.gid)
    with acting_as(identity):
        private_folder(folder)


def give(folder: Path, identity: Identity) -> None:
    """As root: give a folder of root's own and all in it to the user, the folder itself last.

    Until then the user cannot enter it, so nothing in it can be exchanged while it is given away.
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
