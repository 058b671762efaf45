"""The data folder: created private, and refused if other users could have put files in it.

Must not look at the folder's contents; that is up to the modules that own them.
"""

import os
import stat
from pathlib import Path

from relay_queue.protocol import QueueError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def private_folder(path: Path) -> Path:
    """Make sure that `path` is a folder of our own; create it (0700) if it does not exist. Raises `QueueError`."""
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except OSError as error:
        raise QueueError(f"{path} cannot be used as a folder: {error.strerror}") from error
    if stat.S_ISLNK(found.st_mode):
        raise QueueError(f"{path} is a symbolic link; name the folder itself")
    if not stat.S_ISDIR(found.st_mode):
        raise QueueError(f"{path} is not a folder")
    if found.st_mode & _OTHERS_WRITE:
        raise QueueError(f"{path} can be written by others; run: chmod go-w {path}")
    if os.geteuid() != found.st_uid:
        # Root is no exception: the folder's owner could use links to redirect root's writes to other places.
        raise QueueError(
            f"{path} belongs to user {found.st_uid}, and this is user {os.geteuid()}; "
            "run as the owner, or set `user` to it"
        )
    return path


def private_file(path: Path) -> bool:
    """Make sure that `path`, if it exists, is a plain file that only its owner can write; returns whether it exists.

    Raises `QueueError` if it is anything else.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise QueueError(f"{path} is not a plain file")
    if found.st_mode & _OTHERS_WRITE:
        raise QueueError(f"{path} can be written by others; run: chmod go-rwx {path}")
    return True
